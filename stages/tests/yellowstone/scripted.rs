//! The Yellowstone source and replays, against a gRPC server that follows a script.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_config::secret::Secret;
use sluice_stages::batch::{Item, Session, Update};
use sluice_stages::budget::Budget;
use sluice_stages::component::{BuildContext, Component, Endpoint};
use sluice_stages::edge::EdgeConfig;
use sluice_stages::frame::Kind;
use sluice_stages::node::Clock;
use sluice_stages::recovery::replay::{Replay, ReplayError, SlotUpdates};
use sluice_stages::stage::Label;
use sluice_stages::yellowstone::options::Compression;
use sluice_stages::yellowstone::{FailureKind, YellowstoneOptions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use yellowstone_grpc_proto::geyser::geyser_server::{Geyser, GeyserServer};
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::{
    GetBlockHeightRequest, GetBlockHeightResponse, GetLatestBlockhashRequest, GetLatestBlockhashResponse,
    GetSlotRequest, GetSlotResponse, GetVersionRequest, GetVersionResponse, IsBlockhashValidRequest,
    IsBlockhashValidResponse, PingRequest, PongResponse, SubscribeDeshredRequest, SubscribeGossipRequest,
    SubscribeReplayInfoRequest, SubscribeReplayInfoResponse, SubscribeRequest, SubscribeUpdate,
    SubscribeUpdateAccount, SubscribeUpdateAccountInfo, SubscribeUpdateBlockMeta, SubscribeUpdateDeshred,
    SubscribeUpdateEntry, SubscribeUpdateGossip, SubscribeUpdatePing, SubscribeUpdatePong,
    SubscribeUpdateSlot,
};

use crate::support::{PATIENCE, run, run_plain, sessions, updates};

/// What the server does on a subscription, step by step; then it keeps the stream open.
#[derive(Clone)]
enum Step {
    Send(Box<SubscribeUpdate>),
    /// Sends these again and again, with that pause.
    Repeat(Vec<SubscribeUpdate>, Duration),
    Fail(Status),
    End,
}

#[derive(Clone, Default)]
struct Server {
    scripts: Arc<Mutex<VecDeque<Vec<Step>>>>,
    requests: Arc<Mutex<Vec<SubscribeRequest>>>,
    tokens: Arc<Mutex<Vec<Option<String>>>>,
    first_available: Option<u64>,
    newest: Option<u64>,
}

impl Server {
    fn new(scripts: Vec<Vec<Step>>) -> Self {
        Self { scripts: Arc::new(Mutex::new(scripts.into())), ..Self::default() }
    }

    async fn start(&self) -> SocketAddr {
        self.start_on(tonic::transport::Server::builder()).await
    }

    async fn start_with_tls(&self) -> SocketAddr {
        let identity = Identity::from_pem(tls_file("server.pem"), tls_file("server.key"));
        let builder = tonic::transport::Server::builder();
        self.start_on(builder.tls_config(ServerTlsConfig::new().identity(identity)).expect("a valid key"))
            .await
    }

    async fn start_on(&self, mut builder: tonic::transport::Server) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = GeyserServer::new(self.clone())
            .send_compressed(CompressionEncoding::Zstd)
            .max_encoding_message_size(usize::MAX);
        let serve = builder.add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        drop(tokio::spawn(serve));
        address
    }

    fn requests(&self) -> Vec<SubscribeRequest> {
        self.requests.lock().expect("no panic while locked").clone()
    }
}

fn tls_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

fn tls_file(name: &str) -> Vec<u8> {
    std::fs::read(tls_path(name)).expect("a file of the tests")
}

async fn play(script: Vec<Step>, updates: mpsc::Sender<Result<SubscribeUpdate, Status>>) {
    for step in script {
        match step {
            Step::Send(update) => {
                if updates.send(Ok(*update)).await.is_err() {
                    return;
                }
            }
            Step::Repeat(repeated, pause) => loop {
                for update in &repeated {
                    if updates.send(Ok(update.clone())).await.is_err() {
                        return;
                    }
                }
                tokio::time::sleep(pause).await;
            },
            Step::Fail(status) => {
                drop(updates.send(Err(status)).await);
                return;
            }
            Step::End => return,
        }
    }
    updates.closed().await;
}

#[tonic::async_trait]
impl Geyser for Server {
    type SubscribeStream = ReceiverStream<Result<SubscribeUpdate, Status>>;
    type SubscribeDeshredStream = ReceiverStream<Result<SubscribeUpdateDeshred, Status>>;
    type SubscribeGossipStream = ReceiverStream<Result<SubscribeUpdateGossip, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let token =
            request.metadata().get("x-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
        self.tokens.lock().expect("no panic while locked").push(token);
        let mut requests = request.into_inner();
        let seen = Arc::clone(&self.requests);
        let (sender, receiver) = mpsc::channel(4);
        let script = self.scripts.lock().expect("no panic while locked").pop_front().unwrap_or_default();
        drop(tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                seen.lock().expect("no panic while locked").push(request);
            }
        }));
        drop(tokio::spawn(play(script, sender)));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn subscribe_replay_info(
        &self,
        _: Request<SubscribeReplayInfoRequest>,
    ) -> Result<Response<SubscribeReplayInfoResponse>, Status> {
        match self.first_available {
            Some(_) => {
                Ok(Response::new(SubscribeReplayInfoResponse { first_available: self.first_available }))
            }
            None => Err(Status::unimplemented("")),
        }
    }

    async fn get_slot(&self, _: Request<GetSlotRequest>) -> Result<Response<GetSlotResponse>, Status> {
        let slot = self.newest.ok_or_else(|| Status::unimplemented(""))?;
        Ok(Response::new(GetSlotResponse { slot }))
    }

    async fn subscribe_deshred(
        &self,
        _: Request<Streaming<SubscribeDeshredRequest>>,
    ) -> Result<Response<Self::SubscribeDeshredStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn subscribe_gossip(
        &self,
        _: Request<SubscribeGossipRequest>,
    ) -> Result<Response<Self::SubscribeGossipStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_latest_blockhash(
        &self,
        _: Request<GetLatestBlockhashRequest>,
    ) -> Result<Response<GetLatestBlockhashResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_block_height(
        &self,
        _: Request<GetBlockHeightRequest>,
    ) -> Result<Response<GetBlockHeightResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn is_blockhash_valid(
        &self,
        _: Request<IsBlockhashValidRequest>,
    ) -> Result<Response<IsBlockhashValidResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn update(update: UpdateOneof) -> SubscribeUpdate {
    SubscribeUpdate { filters: vec!["all".to_owned()], update_oneof: Some(update), created_at: None }
}

fn slot(slot: u64) -> SubscribeUpdate {
    update(UpdateOneof::Slot(SubscribeUpdateSlot { slot, ..Default::default() }))
}

fn entry(slot: u64, index: u64) -> SubscribeUpdate {
    update(UpdateOneof::Entry(SubscribeUpdateEntry { slot, index, hash: vec![7; 32], ..Default::default() }))
}

fn meta(slot: u64) -> SubscribeUpdate {
    update(UpdateOneof::BlockMeta(SubscribeUpdateBlockMeta { slot, ..Default::default() }))
}

fn account(slot: u64, data_bytes: usize) -> SubscribeUpdate {
    let account =
        SubscribeUpdateAccountInfo { pubkey: vec![1; 32], data: vec![0; data_bytes], ..Default::default() };
    update(UpdateOneof::Account(SubscribeUpdateAccount {
        account: Some(account),
        slot,
        ..Default::default()
    }))
}

fn ping() -> SubscribeUpdate {
    update(UpdateOneof::Ping(SubscribeUpdatePing {}))
}

fn pong() -> SubscribeUpdate {
    update(UpdateOneof::Pong(SubscribeUpdatePong { id: 1 }))
}

fn malformed() -> SubscribeUpdate {
    update(UpdateOneof::Entry(SubscribeUpdateEntry { slot: 9, hash: vec![7; 3], ..Default::default() }))
}

fn step(update: SubscribeUpdate) -> Step {
    Step::Send(Box::new(update))
}

fn send(updates: impl IntoIterator<Item = SubscribeUpdate>) -> Vec<Step> {
    updates.into_iter().map(step).collect()
}

fn options(address: SocketAddr) -> YellowstoneOptions {
    let mut options = YellowstoneOptions::new(format!("http://{address}"));
    options.reconnect_min = Duration::from_millis(1);
    options.reconnect_max = Duration::from_millis(20);
    options
}

#[tokio::test]
async fn a_session_is_opened_filled_in_order_and_closed_and_the_next_one_follows() {
    let mut first = send([entry(5, 0), ping(), entry(5, 1), malformed(), pong(), entry(5, 2)]);
    first.push(Step::End);
    let server = Server::new(vec![first, send([entry(6, 0)])]);
    let mut options = options(server.start().await);
    options.x_token = Some(Secret::new("hunter2"));
    let mut running = run_plain(options);
    let items = running.items(|items| updates(items).len() == 4).await;
    assert_eq!(sessions(&items), [(true, 1), (false, 1), (true, 2)]);
    assert!(matches!(items[0], Item::Session(Session::Opened { .. })));
    let places: Vec<_> = updates(&items)
        .iter()
        .map(|update| (update.session.number, update.frame.header.slot, update.frame.header.index))
        .collect();
    assert_eq!(places, [(1, 5, 0), (1, 5, 1), (1, 5, 2), (2, 6, 0)]);
    assert!(updates(&items).iter().all(|update| update.lease.is_some()));
    assert!(running.disconnect_reason().await.starts_with("ended"));
    let count = |name, label| {
        let metrics = running.metrics.read();
        let same = |metric: &&sluice_stages::stage::Metric| {
            metric.name == name && metric.label.map(|(_, label)| label) == label
        };
        metrics.iter().find(same).map(|metric| metric.value)
    };
    assert_eq!(count("source_malformed_total", None), Some(1.0));
    assert_eq!(count("source_disconnects_total", Some(Label::Word("ended"))), Some(1.0));
    assert_eq!(server.tokens.lock().expect("no panic while locked")[0].as_deref(), Some("hunter2"));
    running.end().await;
}

#[tokio::test]
async fn a_servers_ping_is_answered_with_the_filters_still_in_the_request() {
    let server = Server::new(vec![send([ping(), slot(1)])]);
    let mut running = run_plain(options(server.start().await));
    running.items(|items| !updates(items).is_empty()).await;
    while server.requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    let requests = server.requests();
    assert_eq!(requests[0].ping, None);
    assert!(requests[1].ping.is_some());
    assert_eq!(SubscribeRequest { ping: None, ..requests[1].clone() }, requests[0]);
    running.end().await;
}

#[tokio::test]
async fn silence_ends_a_session_and_so_does_a_chain_that_stands_still() {
    let pings = Step::Repeat(vec![ping(), slot(1)], Duration::from_millis(20));
    let server = Server::new(vec![send([slot(1)]), vec![pings], send([slot(2)])]);
    let mut options = options(server.start().await);
    options.idle_timeout = Duration::from_millis(300);
    options.progress_timeout = Duration::from_millis(600);
    let mut running = run_plain(options);
    assert!(running.disconnect_reason().await.starts_with("idle"));
    assert!(running.disconnect_reason().await.starts_with("stalled"));
    let items = running.items(|items| sessions(items).contains(&(true, 3))).await;
    assert_eq!(sessions(&items), [(true, 1), (false, 1), (true, 2), (false, 2), (true, 3)]);
    running.end().await;
}

#[tokio::test]
async fn a_blocked_source_holds_no_more_than_the_edge_and_stops_promptly() {
    let server = Server::new(vec![vec![Step::Repeat(vec![entry(1, 0)], Duration::ZERO)]]);
    let edge = EdgeConfig { capacity_items: 4, ..EdgeConfig::default() };
    let running = run(options(server.start().await), edge, 1 << 30);
    let used = || running.budget.used_bytes();
    while used() == 0 {
        tokio::task::yield_now().await;
    }
    running.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(2), running.task).await.expect("promptly");
    ended.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_spent_budget_holds_the_source_back_and_nothing_is_lost() {
    let count = 400;
    let sent = (0..count).map(|index| entry(1, index));
    let server = Server::new(vec![send(sent)]);
    let mut running = run(options(server.start().await), EdgeConfig::default(), 1_000);
    let mut indexes = Vec::new();
    while indexes.len() < count as usize {
        let received = tokio::time::timeout(PATIENCE, running.inbox.recv()).await.expect("in time");
        let items = received.expect("the source is running").1;
        indexes.extend(updates(&items).iter().map(|update| u64::from(update.frame.header.index)));
    }
    assert_eq!(indexes, (0..count).collect::<Vec<_>>());
    running.end().await;
}

#[tokio::test]
async fn the_limit_holds_on_the_wire_and_after_decompression() {
    for compression in [Compression::None, Compression::Zstd] {
        let server = Server::new(vec![send([account(1, 2 << 20)]), send([account(2, 1 << 19)])]);
        let mut options = options(server.start().await);
        options.max_message_bytes = 1 << 20;
        options.compression = compression;
        let mut running = run_plain(options);
        let reason = running.disconnect_reason().await;
        assert!(reason.starts_with("message_too_large") && reason.contains("max_message_bytes"), "{reason}");
        let items = running.items(|items| !updates(items).is_empty()).await;
        assert_eq!(updates(&items)[0].frame.header.slot, 2, "what fits still comes");
        running.end().await;
    }
}

#[tokio::test]
async fn compressed_updates_come_out_as_the_same_bytes() {
    use prost::Message;
    let sent: Vec<_> = (0..50).map(|index| entry(3, index)).collect();
    let server = Server::new(vec![send(sent.clone())]);
    let mut options = options(server.start().await);
    options.compression = Compression::Zstd;
    let mut running = run_plain(options);
    let items = running.items(|items| updates(items).len() == sent.len()).await;
    for (update, sent) in updates(&items).iter().zip(&sent) {
        assert_eq!(update.frame.bytes(), &sent.encode_to_vec());
    }
    running.end().await;
}

#[tokio::test]
async fn errors_of_the_stream_are_told_and_survived() {
    let lagged = vec![step(slot(1)), Step::Fail(Status::internal("lagged to send an update"))];
    let server = Server::new(vec![lagged, send([slot(2)])]);
    let mut running = run_plain(options(server.start().await));
    assert!(running.disconnect_reason().await.starts_with("lagged"));
    let items = running.items(|items| updates(items).len() == 2).await;
    assert_eq!(sessions(&items), [(true, 1), (false, 1), (true, 2)]);
    running.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let mut running = run_plain(options(address));
    for _ in 0..3 {
        assert!(running.disconnect_reason().await.starts_with("unavailable"));
    }
    running.end().await;
}

#[tokio::test]
async fn a_server_is_trusted_by_the_authority_and_the_name_that_are_configured() {
    let server = Server::new(vec![send([slot(1)])]);
    let address = server.start_with_tls().await;
    let mut trusting = options(address);
    trusting.url = format!("https://{address}");
    trusting.tls.ca_file = Some(tls_path("ca.pem"));
    let mut misled = run_plain(trusting.clone());
    let reason = misled.disconnect_reason().await;
    assert!(reason.starts_with("unavailable"), "the certificate has another name: {reason}");
    misled.end().await;
    trusting.tls.domain = Some("sluice.test".to_owned());
    let mut running = run_plain(trusting.clone());
    running.items(|items| !updates(items).is_empty()).await;
    running.end().await;
    trusting.tls.ca_file = None;
    let mut suspicious = run_plain(trusting);
    assert!(suspicious.disconnect_reason().await.starts_with("unavailable"), "no public authority signed it");
    suspicious.end().await;
}

#[test]
fn a_wrong_path_of_an_authority_is_told_before_the_start() {
    let mut options = YellowstoneOptions::new("https://host");
    options.tls.ca_file = Some(tls_path("nothing.pem"));
    assert!(options.build(&mut BuildContext::new()).is_err());
}

fn replay_of(options: YellowstoneOptions, first: u64, last: u64) -> Replay {
    let endpoint = Endpoint::new(3, Arc::from("ams"), options);
    Replay { endpoint, first, last, number: 1 }
}

/// Slots and their numbers of updates that a replay brings, and how it ended.
async fn replayed(replay: Replay) -> (Vec<(u64, usize)>, Result<(), ReplayError>) {
    let (sender, mut receiver) = mpsc::channel::<SlotUpdates>(1);
    let budget = Budget::new(1 << 30);
    let collect = async move {
        let mut slots = Vec::new();
        while let Some((slot, updates)) = receiver.recv().await {
            let wanted =
                |update: &Update| update.session.number == (1 << 31 | 1) && update.session.endpoint == 3;
            assert!(updates.iter().all(wanted));
            slots.push((slot, updates.len()));
        }
        slots
    };
    let run = async move { replay.run(Clock::start(), &budget, &sender).await };
    let (result, slots) = tokio::join!(run, collect);
    (slots, result)
}

#[tokio::test]
async fn a_replay_brings_whole_slots_and_stops_when_it_is_past_the_last() {
    let script = send([
        entry(100, 0),
        meta(100),
        ping(),
        entry(102, 0),
        meta(102),
        entry(100, 1),
        meta(103),
        meta(104),
        meta(105),
        meta(106),
    ]);
    let server = Server { newest: Some(110), ..Server::new(vec![script]) };
    let (slots, result) = replayed(replay_of(options(server.start().await), 100, 103)).await;
    result.expect("a whole replay");
    assert_eq!(slots, [(100, 3), (102, 2), (103, 1)]);
    assert_eq!(server.requests()[0].from_slot, Some(100));
}

#[tokio::test]
async fn the_slot_in_progress_at_the_subscribe_is_not_handed_on() {
    let script = send([entry(100, 0), meta(100), entry(101, 5), meta(101), meta(102), meta(103)]);
    let server = Server { newest: Some(100), first_available: Some(90), ..Server::new(vec![script]) };
    let (slots, result) = replayed(replay_of(options(server.start().await), 100, 101)).await;
    result.expect("a replay of what is whole");
    assert_eq!(slots, [(100, 2)]);
}

#[tokio::test]
async fn a_replay_that_can_not_work_is_not_subscribed_to() {
    let server = Server { newest: Some(100), first_available: Some(90), ..Server::new(Vec::new()) };
    let address = server.start().await;
    let (_, too_old) = replayed(replay_of(options(address), 50, 60)).await;
    assert_eq!(too_old.expect_err("before the window").first_available(), Some(90));
    let (_, too_new) = replayed(replay_of(options(address), 101, 102)).await;
    let Err(ReplayError::Endpoint(failure)) = too_new else { panic!("ahead of the tip") };
    assert_eq!(failure.kind, FailureKind::ReplayTooNew);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_inside_of_an_accepted_stream_is_understood() {
    let refusal = "broadcast from 1 is not available, last available: 37";
    let script = vec![step(ping()), Step::Fail(Status::out_of_range(refusal))];
    let server = Server { newest: Some(110), ..Server::new(vec![script]) };
    let (slots, result) = replayed(replay_of(options(server.start().await), 1, 2)).await;
    let error = result.expect_err("refused");
    assert_eq!((slots.len(), error.first_available(), error.is_retryable()), (0, Some(37), false));
}

#[test]
fn the_kinds_of_updates_are_counted_at_their_own_places() {
    let places: Vec<usize> = Kind::ALL.iter().map(|&kind| kind as usize).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..Kind::ALL.len()).collect::<Vec<_>>());
}
