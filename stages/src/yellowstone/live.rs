//! An open stream of one endpoint, and what becomes of its updates.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use yellowstone_grpc_proto::geyser::SubscribeUpdate;

use super::client::{self, Subscription};
use super::failure::Failure;
use super::group::Duty;
use super::request;
use crate::batch::{SessionId, Torn, Update};
use crate::budget::Lease;
use crate::component::Endpoint;
use crate::frame::{Frame, Header, SlotStatus};
use crate::slot::{Slot, Timestamp};

/// Why a session ends.
pub(super) enum End {
    /// By the server's doing.
    Failed(Failure),
    /// The endpoint is told to rest.
    Left,
}

/// What becomes of the updates of an open stream.
pub(super) enum Passing {
    /// They are looked at.
    Nothing,
    /// They are looked at until one names this filter, which has to come in time.
    From { filter: String, until: Timestamp },
    /// They go on.
    Everything(SessionId),
}

/// An open stream.
pub(super) struct Live {
    pub(super) subscription: Subscription,
    pub(super) passing: Passing,
    /// Requests sent along it.
    pub(super) requests: u32,
    pub(super) raw: Vec<Bytes>,
    /// What is being executed, as the stream has shown it while nothing of it went on.
    pub(super) banks: Banks,
}

impl Live {
    /// A stream of which nothing goes on yet.
    pub(super) fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            passing: Passing::Nothing,
            requests: 0,
            raw: Vec::new(),
            banks: Banks::default(),
        }
    }
}

/// Slots that a stream has shown from their beginning to their end before it is known which are in between. The first that
/// a stream shows may have begun before it.
const SLOTS_TO_KNOW: u32 = 2;

/// Slots between the first and the last of which a beginning is remembered: whoever never ended it is on a dead fork.
const REMEMBERED_SLOTS: u64 = 64;

/// Which slots are being executed, by their statuses. Pure.
#[derive(Debug, Default)]
pub(super) struct Banks {
    begun: BTreeSet<Slot>,
    ended: u32,
}

impl Banks {
    /// Takes note of a status.
    pub(super) fn on_header(&mut self, header: &Header) {
        match header.status() {
            Some(SlotStatus::FirstShredReceived | SlotStatus::CreatedBank) => {
                self.begun.insert(header.slot);
                let oldest = self.begun.last().map_or(0, |last| last.saturating_sub(REMEMBERED_SLOTS));
                self.begun = self.begun.split_off(&oldest);
            }
            Some(
                SlotStatus::Processed | SlotStatus::Confirmed | SlotStatus::Finalized | SlotStatus::Dead,
            ) => {
                self.ended += u32::from(self.begun.remove(&header.slot));
            }
            Some(SlotStatus::Completed) | None => {}
        }
    }

    /// Whether all that is being executed is known.
    pub(super) fn are_known(&self) -> bool {
        self.ended >= SLOTS_TO_KNOW
    }

    /// Slots that have begun and not ended.
    pub(super) fn under_way(&self) -> Torn {
        self.begun.iter().copied().collect()
    }
}

/// What all updates of a batch share.
pub(super) struct Template {
    pub(super) session: SessionId,
    pub(super) received_at: Timestamp,
    pub(super) lease: Option<Arc<Lease>>,
}

impl Template {
    #[inline]
    pub(super) fn update(&self, frame: Frame) -> Update {
        Update { frame, session: self.session, received_at: self.received_at, lease: self.lease.clone() }
    }
}

/// Whether an update was sent for the filter called `filter`.
pub(super) fn names(raw: &Bytes, filter: &str) -> bool {
    SubscribeUpdate::decode(raw.clone()).is_ok_and(|update| update.filters.iter().any(|name| name == filter))
}

/// Opens a stream for this duty.
pub(super) async fn open(endpoint: &Endpoint, duty: Duty) -> Result<Subscription, Failure> {
    let options = &endpoint.options;
    let channel = endpoint.link.channel(options).await?;
    let first = match duty {
        Duty::Active => request::subscribe(options, None),
        Duty::Standby | Duty::Rest => request::standby(),
    };
    client::subscribe_with(channel, options, first).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::status;

    fn show(banks: &mut Banks, slot: Slot, what: SlotStatus) {
        banks.on_header(&status(0, None, slot, None, what).frame.header);
    }

    #[test]
    fn what_has_begun_and_not_ended_is_under_way() {
        let mut banks = Banks::default();
        for slot in [10, 11] {
            show(&mut banks, slot, SlotStatus::FirstShredReceived);
            show(&mut banks, slot, SlotStatus::CreatedBank);
            show(&mut banks, slot, SlotStatus::Completed);
            assert!(!banks.are_known());
            show(&mut banks, slot, SlotStatus::Processed);
        }
        show(&mut banks, 12, SlotStatus::CreatedBank);
        show(&mut banks, 13, SlotStatus::FirstShredReceived);
        show(&mut banks, 12, SlotStatus::Dead);
        assert!(banks.are_known());
        assert_eq!(banks.under_way()[..], [13]);
    }

    #[test]
    fn a_server_that_announces_no_banks_leaves_it_unknown() {
        let mut banks = Banks::default();
        (10..20).for_each(|slot| show(&mut banks, slot, SlotStatus::Processed));
        assert!(!banks.are_known());
    }
}
