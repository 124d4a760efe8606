//! Kinds of nodes that end in their own ways.

use std::time::Duration;

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice::kinds::{Kind, kind};
use sluice_cluster::cluster::{Cluster, Config, Emission};
use sluice_cluster::faults::Profile;
use sluice_stages::batch::{Item, Scope, Session, SessionId, Torn, Update, Want};
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Endpoint, Node, Role};
use sluice_stages::edge::{Inbox, Outbox};
use sluice_stages::frame::Frame;
use sluice_stages::node::{NodeContext, NodeError, Sink, Source};
use sluice_stages::stage::Flow;
use sluice_stages::yellowstone::EndpointOptions;
use yellowstone_grpc_proto::prelude::{
    SubscribeRequest, SubscribeRequestFilterBlocksMeta, SubscribeRequestFilterSlots,
    SubscribeRequestFilterTransactions,
};

use crate::support::small_ledger;

/// What a failing sink says.
pub(super) const FAILURE: &str = "this sink was made to fail";
/// The first slot of the ledger that is played.
pub(super) const FIRST_SLOT: u64 = sluice_cluster::ledger::FIRST_SLOT;
/// Slots that are played.
const SLOTS: u64 = 48;
/// Slots of whole files that are final when all is played.
pub(super) const COMMITTED_SLOTS: u64 = 40;
/// Time from slot to slot, none of which is waited for.
const SLOT_TIME: Duration = Duration::from_millis(400);
/// Updates read at once.
const BATCH_UPDATES: usize = 256;

/// What the tests need of the usual kinds, and their own.
pub(super) static KINDS: &[Kind] = &[
    kind::<Played>(),
    kind::<sluice_stages::dedupe::DedupeOptions>(),
    kind::<sluice_stages::gap_detector::GapDetectorOptions>(),
    kind::<sluice_stages::recovery::RecoveryOptions>(),
    kind::<sluice_stages::commitment::CommitmentOptions>(),
    kind::<sluice_sinks::parquet::ParquetOptions>(),
    kind::<Failing>(),
    kind::<Panicking>(),
    kind::<Stuck>(),
    kind::<Leaving>(),
];

/// Plays a ledger as fast as it is taken, then ends.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Played {}

impl Component for Played {
    const KIND: &'static str = "played";
    const ROLE: Role = Role::Source;
    const ACCEPTS: Accepts = Accepts::Nothing;
    const EMITS: Emits = Emits::Only(Flow::Updates);
    const SUMMARY: &'static str = "plays a short ledger and ends";

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let scope = Scope { transactions: Want::Everything, ..Scope::default() };
        context.scope = scope;
        // Nothing listens there: what the stream does not bring is not to be had.
        let endpoint =
            context.register(context.node.as_str().into(), EndpointOptions::new("http://127.0.0.1:1"))?;
        Ok(Node::Source(Box::new(Player { endpoint, scope })))
    }
}

struct Player {
    endpoint: Endpoint,
    scope: Scope,
}

impl Source for Player {
    fn run(
        self: Box<Self>,
        outbox: Outbox,
        context: NodeContext,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            let id = SessionId { endpoint: self.endpoint.id, number: 1 };
            let at = context.clock.now();
            let endpoint = self.endpoint.name;
            outbox
                .send(vec![Item::Session(Session::Opened {
                    id,
                    endpoint,
                    scope: self.scope,
                    torn: Torn::new(),
                    at,
                })])
                .await?;
            for frames in played().chunks(BATCH_UPDATES) {
                let received_at = context.clock.now();
                let bytes = frames.iter().map(|frame| frame.bytes().len()).sum();
                let lease = Some(context.budget.lease(bytes).await);
                let update = |frame: &Frame| {
                    let (frame, lease) = (frame.clone(), lease.clone());
                    Item::Update(Update { frame, session: id, received_at, lease })
                };
                outbox.send(frames.iter().map(update).collect()).await?;
            }
            let closed = Session::Closed { id, at: context.clock.now() };
            Ok(outbox.send(vec![Item::Session(closed)]).await?)
        })
    }
}

/// All updates of the ledger, from its first to the last status of its last slot.
fn played() -> Vec<Frame> {
    let config = Config {
        endpoints: 1,
        faults: Profile::None,
        slot_time: SLOT_TIME,
        finalized_after: 4,
        ..Config::default()
    };
    let cluster = Cluster::new(small_ledger(SLOTS), config);
    let request = SubscribeRequest {
        transactions: [(String::new(), SubscribeRequestFilterTransactions::default())].into(),
        blocks_meta: [(String::new(), SubscribeRequestFilterBlocksMeta::default())].into(),
        slots: [(
            String::new(),
            SubscribeRequestFilterSlots { interslot_updates: Some(true), ..Default::default() },
        )]
        .into(),
        ..SubscribeRequest::default()
    };
    let mut subscription =
        cluster.endpoints()[0].subscribe(Duration::ZERO, &request, None).expect("a perfect endpoint");
    let end = cluster.end().expect("the ledger has an end");
    let emissions = subscription.poll(end, usize::MAX);
    let bytes = emissions.into_iter().filter_map(|emission| match emission {
        Emission::Frame(bytes) => Some(bytes),
        Emission::End(_) | Emission::Hang | Emission::Close => None,
    });
    let frames = bytes.map(|bytes| Frame::try_new(bytes).expect("a frame"));
    frames.filter(|frame| frame.header.slot > 0).collect()
}

/// Makes a component of a sink without options.
macro_rules! sink {
    ($(#[$doc:meta])* $name:ident, $kind:literal, |$inbox:ident| $run:expr) => {
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $name {}

        impl Component for $name {
            const KIND: &'static str = $kind;
            const ROLE: Role = Role::Sink;
            const ACCEPTS: Accepts = Accepts::Any;
            const EMITS: Emits = Emits::Nothing;
            const SUMMARY: &'static str = "ends in its own way";

            fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
                Ok(Node::Sink(Box::new(self)))
            }
        }

        impl Sink for $name {
            fn run(
                self: Box<Self>,
                mut $inbox: Inbox,
                _: NodeContext,
            ) -> BoxFuture<'static, Result<(), NodeError>> {
                Box::pin(async move { $run })
            }
        }
    };
}

sink!(
    /// Panics over the first batch.
    Panicking, "panicking", |inbox| {
        inbox.recv().await;
        panic!("this sink was made to panic")
    }
);
sink!(
    /// Takes one batch and never comes back.
    Stuck, "stuck", |inbox| {
        inbox.recv().await;
        std::future::pending().await
    }
);
sink!(
    /// Has enough after one batch.
    Leaving, "leaving", |inbox| {
        inbox.recv().await;
        Ok(())
    }
);

/// Fails after some items.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Failing {
    /// So many.
    after_items: usize,
}

impl Component for Failing {
    const KIND: &'static str = "failing";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::Any;
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "fails after some items";

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        Ok(Node::Sink(Box::new(self)))
    }
}

impl Sink for Failing {
    fn run(self: Box<Self>, mut inbox: Inbox, _: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(async move {
            let mut items = 0;
            while let Some((_, batch)) = inbox.recv().await {
                items += batch.len();
                if items >= self.after_items {
                    return Err(NodeError::Fatal(FAILURE.to_owned()));
                }
            }
            Ok(())
        })
    }
}
