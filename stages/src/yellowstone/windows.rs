//! What HTTP/2 may have read that the pipeline has not: the receive windows of all endpoints together.
//!
//! A server may send as much as the window lets it before anybody reads, and that is not yet a frame of the memory budget.
//! So the windows come out of the same limit: at most a quarter of it, shared out among the endpoints.

/// A window that bounds no stream: 80 MB/s, four times mainnet's transactions, at a round trip of 200 ms.
pub(super) const MAX_SHARE_BYTES: u32 = 16 << 20;
/// HTTP/2's own first window, below which a connection can't begin.
const MIN_WINDOW_BYTES: u32 = (64 << 10) - 1;
/// Room for the answers to unary calls: many times what one of them takes.
const UNARY_WINDOW_BYTES: u32 = 64 << 10;
/// HTTP/2's own bound of a window.
const MAX_WINDOW_BYTES: u32 = i32::MAX as u32;

/// The window of each stream, of a pipeline with so many endpoints and so much memory.
pub fn share(limit_bytes: usize, endpoints: usize) -> u32 {
    // Two streams each: the subscription, and a replay.
    let streams = endpoints.max(1).saturating_mul(2);
    let share = (limit_bytes / 4 / streams).saturating_sub(UNARY_WINDOW_BYTES as usize / 2);
    u32::try_from(share).unwrap_or(MAX_SHARE_BYTES).clamp(MIN_WINDOW_BYTES, MAX_SHARE_BYTES)
}

/// The window of a connection. It carries one subscription, at most one replay, and unary calls, which have to get through
/// while the pipeline does not read the other two.
pub fn of_connection(stream_bytes: u32) -> u32 {
    stream_bytes.saturating_mul(2).saturating_add(UNARY_WINDOW_BYTES).min(MAX_WINDOW_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_take_a_quarter_of_the_memory_at_most_and_no_more_than_a_stream_needs() {
        for limit_mib in [4, 8, 64, 512, 2_048, 65_536] {
            for endpoints in [1, 2, 3, 8] {
                let all = u64::from(of_connection(share(limit_mib << 20, endpoints))) * endpoints as u64;
                let floor = u64::from(of_connection(MIN_WINDOW_BYTES)) * endpoints as u64;
                assert!(
                    all <= ((limit_mib as u64) << 20) / 4 || all == floor,
                    "{limit_mib} MiB, {endpoints}"
                );
            }
        }
        assert_eq!(share(2 << 30, 3), MAX_SHARE_BYTES, "the default is not held back");
        assert_eq!(of_connection(u32::MAX), MAX_WINDOW_BYTES);
    }
}
