//! An open stream of one endpoint, and what becomes of its updates.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use yellowstone_grpc_proto::geyser::SubscribeUpdate;

use super::client::{self, Subscription};
use super::failure::Failure;
use super::group::Duty;
use super::request;
use crate::batch::{SessionId, Update};
use crate::budget::Lease;
use crate::component::Endpoint;
use crate::frame::Frame;
use crate::slot::Timestamp;

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
}

impl Live {
    /// A stream of which nothing goes on yet.
    pub(super) fn new(subscription: Subscription) -> Self {
        Self { subscription, passing: Passing::Nothing, requests: 0, raw: Vec::new() }
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
