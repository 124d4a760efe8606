//! Runs the sink as the runner would, on blocks made of real transactions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use sluice_sinks::parquet::ParquetOptions;
use sluice_stages::account::Account;
use sluice_stages::batch::{Item, SessionId, Update};
use sluice_stages::block::{Block, Part, Way};
use sluice_stages::budget::Budget;
use sluice_stages::component::{BuildContext, Component, Node};
use sluice_stages::edge::{EdgeConfig, Inbox, Outbox, connect};
use sluice_stages::frame::{BlockMeta, Frame, Kind};
use sluice_stages::node::{Clock, EventSink, MetricBoard, NodeContext, RequestSender};
use sluice_stages::slot::{Hash, Timestamp};
use sluice_stages::stage::Event;
use sluice_stages::watch::Watch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use yellowstone_grpc_proto::geyser::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::geyser::{SubscribeUpdate, SubscribeUpdateTransaction};

/// Blocks that go through an edge together.
const BATCH_BLOCKS: usize = 7;

/// An update as it would come off the wire.
pub(crate) fn update(bytes: Bytes) -> Update {
    let frame = Frame::try_new(bytes).expect("a valid update");
    Update { frame, session: SessionId { endpoint: 0, number: 0 }, received_at: Timestamp(0), lease: None }
}

fn encoded(update_oneof: UpdateOneof) -> Update {
    let message = SubscribeUpdate { filters: Vec::new(), update_oneof: Some(update_oneof), created_at: None };
    update(message.encode_to_vec().into())
}

/// The updates of one slot.
#[derive(Default)]
pub(crate) struct Collected {
    meta: Option<Update>,
    transactions: Vec<Update>,
    entries: Vec<Update>,
    accounts: Vec<Update>,
}

impl Collected {
    /// Takes an update in.
    pub(crate) fn add(&mut self, update: Update) {
        match update.frame.header.kind {
            Kind::BlockMeta => self.meta = Some(update),
            Kind::Transaction => self.transactions.push(update),
            Kind::Entry => self.entries.push(update),
            Kind::Account => self.accounts.push(update),
            _ => {}
        }
    }

    /// The block, if its meta and all its transactions are there.
    pub(crate) fn whole(mut self) -> Option<Arc<Block>> {
        let meta_update = self.meta?;
        let meta = BlockMeta::read(meta_update.frame.body()).expect("a valid meta");
        self.transactions.sort_by_key(|update| update.frame.header.index);
        self.entries.sort_by_key(|update| update.frame.header.index);
        let whole = self.transactions.len() == meta.executed_transaction_count as usize;
        let version = |update: &Update| Account::read(update.frame.body()).expect("valid").write_version;
        self.accounts.sort_by_key(|update| (update.frame.key().to_vec(), std::cmp::Reverse(version(update))));
        self.accounts.dedup_by_key(|update| update.frame.key().to_vec());
        let block = Block {
            meta,
            meta_update,
            transactions: Part::Whole(self.transactions.into()),
            entries: Part::Whole(self.entries.into()),
            accounts: Part::Whole(self.accounts.into()),
            way: Way::Live,
            witnesses: Default::default(),
            vouched: None,
        };
        whole.then(|| Arc::new(block))
    }
}

/// The block of a ledger, as a server streams it; without entries and accounts.
pub(crate) fn block_of(original: &sluice_cluster::ledger::Block) -> Arc<Block> {
    let mut collected = Collected::default();
    collected.add(encoded(UpdateOneof::BlockMeta(original.meta(7))));
    for info in &original.transactions {
        let transaction = Some(info.clone());
        let update = SubscribeUpdateTransaction { transaction, slot: original.slot, bank_id: 7 };
        collected.add(encoded(UpdateOneof::Transaction(update)));
    }
    let block = collected.whole().expect("every transaction was added");
    let parts = (Part::NotSubscribed, Part::NotSubscribed);
    Arc::new(Block { entries: parts.0, accounts: parts.1, ..Block::clone(&block) })
}

/// An empty block so many slots later that builds on another one: it proves that one's range to be at its end.
pub(crate) fn child_of(block: &Block, slots: u64) -> Arc<Block> {
    let slot = block.slot() + slots;
    block_of(&sluice_cluster::ledger::Block {
        slot,
        parent_slot: block.slot(),
        blockhash: hash_of(slot),
        parent_blockhash: block.blockhash().to_base58(),
        ..sluice_cluster::ledger::Block::default()
    })
}

/// A made-up blockhash.
pub(crate) fn hash_of(slot: u64) -> String {
    Hash(Sha256::digest(slot.to_le_bytes()).into()).to_base58()
}

/// CPU time that this process has used.
pub(crate) fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system time, in ticks of 10 ms.
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Builds the sink, sends it the blocks along an edge, ends the edge, and waits for the sink to end.
pub(crate) async fn run_sink(options: ParquetOptions, blocks: &[Arc<Block>]) -> Vec<Event> {
    assert_eq!(options.problems(), []);
    let Ok(Node::Sink(sink)) = options.build(&mut BuildContext::new()) else { panic!("not a sink") };
    let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
    connect(&mut outbox, &mut inbox, EdgeConfig::default());
    let (events, mut reported) = mpsc::channel(100_000);
    let context = NodeContext {
        name: "parquet".to_owned(),
        stop: CancellationToken::new(),
        clock: Clock::start(),
        budget: Budget::new(usize::MAX),
        events: EventSink::new("parquet", events),
        requests: RequestSender::default(),
        metrics: MetricBoard::default(),
        watch: Watch::default(),
    };
    let running = tokio::spawn(sink.run(inbox, context));
    for batch in blocks.chunks(BATCH_BLOCKS) {
        outbox.send(batch.iter().cloned().map(Item::Block).collect()).await.expect("the sink runs");
    }
    drop(outbox);
    running.await.expect("no panic").expect("no error");
    let mut all = Vec::new();
    while let Ok((_, event)) = reported.try_recv() {
        all.push(event);
    }
    all
}
