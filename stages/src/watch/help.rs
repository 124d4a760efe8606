//! What each family of metrics means, for the `# HELP` lines of the exposition.

use std::borrow::Cow;

/// Families by their names without the prefix `sluice_`, in alphabetical order.
const HELP: &[(&str, &str)] = &[
    ("arrivals_lost_total", "Rows of the arrivals dataset that could not be written."),
    ("batches_total", "Batches that a batcher let out, by what made it."),
    ("chain_contradictions_total", "Slots of which two versions were called canonical."),
    ("commitment_level", "The level that slots have to reach: 0 processed, 1 confirmed, 2 finalized."),
    ("commitment_strain", "How many times its limit a measure of an adaptive commitment is."),
    ("commitment_switches_total", "Changes of the level of an adaptive commitment, by direction."),
    ("committed_blocks_total", "Slots that the commitment stage let out."),
    ("delivery_abandoned_total", "Messages that were not delivered when the pipeline ended."),
    ("delivery_breaker_open", "1 while nothing is sent to a receiver because it failed too often."),
    ("delivery_bytes_total", "Bytes of messages that a receiver has taken."),
    ("delivery_dead_letters_total", "Messages that a receiver will never take."),
    (
        "delivery_held_back_notices_total",
        "Notices of alerts that a newer one of their group or a summary stands for.",
    ),
    ("delivery_messages_total", "Messages that a receiver has taken."),
    ("delivery_next_slot", "The first slot that is not known to be delivered."),
    ("delivery_notices_total", "Notices of alerts that a receiver has taken."),
    ("delivery_records_total", "Records that a receiver has taken."),
    ("delivery_refused_recipients_total", "Recipients whom a mail server refused, once for each mail."),
    ("delivery_retries_total", "Tries to deliver that failed and are repeated."),
    ("delivery_throttled_total", "Tries to deliver that were told to come back later."),
    ("discarded_blocks_total", "Versions of slots on dead or orphaned forks that were let go."),
    ("disputes_total", "Versions of slots of which endpoints said different things."),
    ("duplicate_updates_total", "Updates that another endpoint had sent before, by endpoint."),
    ("edge_blocked_seconds_total", "Time that the sender waited for room on the edge."),
    ("edge_dropped_items_total", "Items dropped because the edge was full."),
    ("edge_high_water_bytes", "The most bytes that were in flight on the edge at once."),
    ("edge_received_bytes_total", "Bytes that came out of the edge."),
    ("edge_received_items_total", "Items that came out of the edge."),
    ("edge_sent_bytes_total", "Bytes that went into the edge."),
    ("edge_sent_items_total", "Items that went into the edge."),
    ("edge_starved_seconds_total", "Time that the receiver waited for a batch from the edge."),
    ("endpoint_active", "1 while the endpoint is subscribed to in full."),
    ("endpoint_bytes_total", "Bytes that an endpoint has sent, pings and pongs left out."),
    ("endpoint_connected", "1 while the endpoint's stream is open."),
    ("endpoint_error_rate", "The share of an endpoint's requests and sessions that failed lately."),
    ("endpoint_errors_total", "Requests and sessions of an endpoint that failed, rate limits apart."),
    (
        "endpoint_first_arrival_seconds",
        "How much later than the first endpoint of its source one shows slots, as a mean.",
    ),
    ("endpoint_info", "1 for each endpoint, with its region: joins metrics by region."),
    ("endpoint_lag_slots", "How many slots an endpoint is behind the best of its source."),
    ("endpoint_malformed_total", "Messages of an endpoint that could not be read."),
    ("endpoint_promotions_total", "Times that an endpoint became active."),
    ("endpoint_quarantined", "1 while an endpoint is not used because its data was proven wrong."),
    ("endpoint_rate_limited_total", "Requests that an endpoint refused because there were too many."),
    ("endpoint_resting", "1 while an endpoint is left alone after failing again and again."),
    ("endpoint_round_trip_seconds", "How long an endpoint takes to answer, as a mean."),
    ("endpoint_sessions_total", "Subscriptions that an endpoint has accepted."),
    ("endpoint_slot", "The highest slot that an endpoint has sent."),
    ("endpoint_standby", "1 while an endpoint is subscribed to slots only."),
    ("endpoint_tip_slot", "The highest slot of an endpoint's latest session that brought one."),
    ("endpoint_updates_total", "Updates that an endpoint has sent, pings and pongs left out."),
    ("finalized_slot", "The highest slot that is known to be final."),
    ("first_updates_total", "Updates that an endpoint was the first to send."),
    ("held_blocks", "Slots that wait for their commitment."),
    ("holes", "Slots that can't be had for now."),
    (
        "ledger_claims_total",
        "What one endpoint said of a slot about which endpoints differ, for a proof to judge.",
    ),
    ("ledger_contradictions_total", "Slots about which endpoints contradicted each other."),
    ("ledger_discarded_total", "Updates that the slot ledger could not use, by reason."),
    ("ledger_gaps_total", "Gaps that the slot ledger has found."),
    ("ledger_open_slots", "Slots that are not whole yet."),
    ("ledger_owed_slots", "Slots that were found missing and are not there yet."),
    ("ledger_whole_slots_total", "Slots that came whole."),
    ("memory_limit_bytes", "The most bytes of frames that may be in flight."),
    ("memory_peak_bytes", "The most bytes of frames that were in flight at once."),
    ("memory_used_bytes", "Bytes of frames in flight now."),
    ("parquet_commit_failures_total", "Tries to make a file durable that failed."),
    ("parquet_committed_bytes_total", "Bytes of durable files."),
    ("parquet_committed_files_total", "Durable files."),
    ("parquet_committed_ranges_total", "Ranges of slots whose files are durable."),
    ("parquet_committed_rows_total", "Rows in durable files."),
    (
        "parquet_hole_ranges_total",
        "Ranges of entries or accounts that did not come whole in time and are not in any file.",
    ),
    ("proven_wrong_total", "Slots that an endpoint delivered otherwise than they turned out to be."),
    ("recorder_updates_total", "Updates that were recorded."),
    ("recorder_written_bytes_total", "Bytes of the recording."),
    ("recovered_slots_total", "Missing slots that were settled, by the way they came."),
    ("recovery_failures_total", "Fetches of missing slots that failed."),
    ("recovery_found_slots_total", "Slots that recovery began to look for."),
    ("recovery_holes_total", "Slots that were given up for the time being."),
    ("recovery_in_flight", "Fetches under way."),
    ("recovery_searches", "Missing slots that are looked for."),
    ("recovery_unspooled_slots_total", "Slots that were fetched by replays and that the spool did not take."),
    ("rpc_concurrency_limit", "The most requests at a time that the RPC nodes seem to bear."),
    ("rpc_errors_total", "Requests that RPC nodes did not answer as they should, rate limits apart."),
    ("rpc_in_flight", "Requests to RPC nodes under way."),
    ("rpc_rate_limited_total", "Requests that RPC nodes refused because there were too many."),
    ("rpc_requests_total", "Requests sent to RPC nodes."),
    ("rpc_resting", "RPC nodes that are left alone: they failed again and again, or asked for a pause."),
    ("rpc_wait_seconds", "How long no RPC node is asked because all of them rest; 0 while one may be."),
    ("source_bytes_total", "Bytes that a source has read, pings and pongs left out."),
    ("source_connected", "Endpoints of the source whose stream is open."),
    ("source_disconnects_total", "Streams that ended, by reason."),
    ("source_malformed_total", "Messages that could not be read."),
    ("source_sessions_total", "Subscriptions that were accepted."),
    ("source_tip_slot", "The highest slot that the source has seen."),
    ("source_updates_total", "Messages that the source has read, by kind, pings and pongs among them."),
    ("spool_bytes", "Size of the spool's segments."),
    ("spool_failing", "1 while the spool's disk refuses and updates go past it."),
    ("spool_failures_total", "Writes and syncs that the spool's disk refused."),
    (
        "spool_lost_updates_total",
        "Updates that went past the spool, or were not durable when its disk refused.",
    ),
    ("spool_played_updates_total", "Updates of an earlier run that the spool handed on again."),
    ("spool_removed_segments_total", "Segments that the spool let go, by reason."),
    ("spool_segments", "Segments of the spool."),
    ("spool_syncs_total", "Times that the spool made what came durable."),
    ("spool_updates_total", "Updates that the spool made durable."),
    ("spool_written_bytes_total", "Bytes that the spool has written."),
    ("tip_slot", "The highest slot that is believed to exist."),
    ("watermark_slot", "The highest slot that has reached the commitment that is waited for."),
];

/// The meaning of the family `name`, which comes without its prefix. A family that the table does not know is described
/// by the words of its name.
pub(super) fn help(name: &str) -> Cow<'static, str> {
    match HELP.binary_search_by_key(&name, |(known, _)| known) {
        Ok(at) => Cow::Borrowed(HELP[at].1),
        Err(_) => Cow::Owned(described(name)),
    }
}

fn described(name: &str) -> String {
    let (words, end) = match name.strip_suffix("_total") {
        Some(words) => (words, ", counted since the start."),
        None => (name, ", now."),
    };
    let words = words.replace('_', " ");
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(end.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_so_that_it_can_be_searched() {
        assert!(HELP.is_sorted_by(|first, second| first.0 < second.0));
        assert_eq!(help("holes"), "Slots that can't be had for now.");
    }

    #[test]
    fn a_family_that_nobody_described_is_described_by_its_name() {
        assert_eq!(help("webhook_sent_notices_total"), "Webhook sent notices, counted since the start.");
        assert_eq!(help("webhook_in_flight"), "Webhook in flight, now.");
    }
}
