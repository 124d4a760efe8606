//! What is delivered is what the chain held, whatever the receiver does and whenever the pipeline dies.

mod killed;
mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluice_cluster::cluster::{Cluster, Config};
use sluice_cluster::faults::Profile;
use sluice_cluster::server::Running as Served;
use sluice_cluster::truth::TruthSlot;
use yellowstone_grpc_proto::prelude::SubscribeUpdateTransactionInfo;

use crate::support::{Lossless, parse, run_until, serve, small_ledger};
use receiver::{Answer, Receiver};

/// Slots of a ledger.
const SLOTS: u64 = 80;
/// Slots behind the last one that is looked at, so that it becomes final.
const TAIL_SLOTS: u64 = 20;
/// Slots of a file.
const COMMIT_SLOTS: u64 = 10;
/// Patience that suits a receiver on loopback.
const HASTY: &str = "retry = { min_backoff = \"10ms\", max_backoff = \"50ms\", reset_timeout = \"50ms\" }\n";

/// Which transaction: slot and index.
type Place = (u64, u64);

async fn cluster(slots: u64) -> Served {
    let config = Config {
        endpoints: 2,
        faults: Profile::None,
        slot_time: Duration::from_millis(10),
        finalized_after: 8,
        ..Config::default()
    };
    serve(small_ledger(slots + TAIL_SLOTS), config, 0).await
}

/// The transactions of the first `slots` slots that satisfy `wanted`.
fn expected(
    cluster: &Cluster,
    slots: u64,
    wanted: impl Fn(&SubscribeUpdateTransactionInfo) -> bool,
) -> BTreeSet<Place> {
    let first = cluster.truth().first_slot().expect("a ledger has slots");
    let mut places = BTreeSet::new();
    for slot in first..first + slots {
        if let Some(TruthSlot::Block(version)) = cluster.truth().slot(slot) {
            let matching = version.block.transactions.iter().filter(|info| wanted(info));
            places.extend(matching.map(|info| (slot, info.index)));
        }
    }
    places
}

/// All keys of a transaction, in the order in which instructions count them.
fn keys(info: &SubscribeUpdateTransactionInfo) -> Vec<Vec<u8>> {
    let message = info.transaction.as_ref().and_then(|one| one.message.as_ref());
    let named = message.into_iter().flat_map(|message| message.account_keys.clone());
    let meta = info.meta.clone().unwrap_or_default();
    named.chain(meta.loaded_writable_addresses).chain(meta.loaded_readonly_addresses).collect()
}

/// The programs that a transaction executes, those of inner instructions included.
fn programs(info: &SubscribeUpdateTransactionInfo) -> BTreeSet<Vec<u8>> {
    let keys = keys(info);
    let message = info.transaction.as_ref().and_then(|one| one.message.as_ref());
    let outer = message.into_iter().flat_map(|message| &message.instructions).map(|one| one.program_id_index);
    let meta = info.meta.clone().unwrap_or_default();
    let inner =
        meta.inner_instructions.iter().flat_map(|inner| &inner.instructions).map(|one| one.program_id_index);
    outer.chain(inner).filter_map(|index| keys.get(index as usize).cloned()).collect()
}

fn failed(info: &SubscribeUpdateTransactionInfo) -> bool {
    info.meta.as_ref().is_some_and(|meta| meta.err.is_some())
}

fn base58(key: &[u8]) -> String {
    bs58::encode(key).into_string()
}

/// A key that some transactions have and most have not.
fn middling(sets: impl Iterator<Item = BTreeSet<Vec<u8>>>) -> Vec<u8> {
    let (mut counts, mut all) = (BTreeMap::<Vec<u8>, usize>::new(), 0);
    for set in sets {
        all += 1;
        set.into_iter().for_each(|key| *counts.entry(key).or_default() += 1);
    }
    let some = counts.into_iter().filter(|(_, count)| (2..all / 2).contains(count));
    some.max_by_key(|(_, count)| *count).expect("keys differ").0
}

fn places<'r>(records: impl IntoIterator<Item = &'r Value>) -> Vec<Place> {
    let place = |record: &Value| {
        (record["type"] == "transaction")
            .then(|| Some((record["slot"].as_u64()?, record["index"].as_u64()?)))?
    };
    records.into_iter().filter_map(place).collect()
}

/// A sink of transactions behind everything that is final.
fn webhook(name: &str, url: &str, state: &Path, more: &str) -> String {
    let secret = receiver::SECRET;
    format!(
        "[sinks.{name}]\ntype = \"webhook\"\ninputs = [\"final\"]\nurl = \"{url}\"\nrecords = [\"transactions\"]\n\
         signing_secrets = [\"{secret}\"]\nstate_path = \"{}\"\n{more}\n",
        state.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sink_gets_the_transactions_that_its_filters_name_and_no_other() {
    let served = cluster(SLOTS).await;
    let chain = served.cluster();
    let root = tempfile::tempdir().expect("a folder");
    let pipeline = Lossless::new(&served, &root.path().join("out"), COMMIT_SLOTS);
    let (first, all) = (pipeline.start_slot, expected(chain, SLOTS, |_| true));
    let infos: Vec<SubscribeUpdateTransactionInfo> = (first..first + SLOTS)
        .filter_map(|slot| match chain.truth().slot(slot) {
            Some(TruthSlot::Block(version)) => Some(version.block.transactions.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let program = middling(infos.iter().map(programs));
    let account = middling(infos.iter().map(|info| keys(info).into_iter().collect()));
    let wanted = [
        ("program", format!("programs = [\"{}\"]", base58(&program)), {
            expected(chain, SLOTS, |info| programs(info).contains(&program))
        }),
        ("account", format!("accounts = [\"{}\"]", base58(&account)), {
            expected(chain, SLOTS, |info| keys(info).contains(&account))
        }),
        ("votes", "vote = true".to_owned(), expected(chain, SLOTS, |info| info.is_vote)),
        ("failures", "failed = true".to_owned(), expected(chain, SLOTS, failed)),
        ("both", "vote = false, failed = false".to_owned(), {
            expected(chain, SLOTS, |info| !info.is_vote && !failed(info))
        }),
    ];
    let (mut text, mut receivers) = (pipeline.text(), Vec::new());
    for (name, filters, _) in &wanted {
        let receiver = Receiver::start(&[]).await;
        let more = format!("filters = {{ {filters} }}\nbatch_items = 7\nbatch_wait = \"50ms\"\n{HASTY}");
        text += &webhook(name, &receiver.url, &root.path().join(name), &more);
        receivers.push(receiver);
    }
    let file = root.path().join("all.jsonl");
    text += &format!(
        "[sinks.lines]\ntype = \"file\"\ninputs = [\"final\"]\npath = \"{}\"\nrecords = [\"transactions\"]\n",
        file.display()
    );
    let (_, result) = run_until(parse(&text), |_| pipeline.is_committed(first + SLOTS - 1)).await;
    result.expect("drained without an error");
    let within = |place: &Place| place.0 < first + SLOTS;
    let mut cutting = 0;
    for ((name, _, expected), receiver) in wanted.iter().zip(&receivers) {
        let (messages, mut got) = (receiver.taken(), Vec::new());
        for message in &messages {
            let records = message.records();
            assert!((1..=7).contains(&records.len()), "{name}: {} records", records.len());
            got.extend(places(&records).into_iter().filter(within));
        }
        cutting += usize::from(!expected.is_empty() && expected.len() < all.len());
        // Slots that were missed at first come when they are recovered.
        got.sort_unstable();
        assert_eq!(got, Vec::from_iter(expected.iter().copied()), "{name}: each once");
        let ids: BTreeSet<&String> = messages.iter().map(|message| &message.id).collect();
        assert_eq!(ids.len(), messages.len(), "{name}: an id for each message");
    }
    assert!(cutting >= 3, "{cutting} of the filters take some and leave some");
    let lines = fs::read_to_string(&file).expect("written");
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut got: Vec<Place> = places(&records).into_iter().filter(within).collect();
    got.sort_unstable();
    assert_eq!(got, Vec::from_iter(all), "the file holds each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_time_gets_it_and_one_that_never_takes_a_message_does_not_stop_the_others() {
    let served = cluster(SLOTS).await;
    let root = tempfile::tempdir().expect("a folder");
    let pipeline = Lossless::new(&served, &root.path().join("out"), COMMIT_SLOTS);
    let first = pipeline.start_slot;
    let busy = Receiver::start(&[Answer::RetryAfter(429, "1"), Answer::RetryAfter(503, "1")]).await;
    let refusing = Receiver::start(&[Answer::Status(500); 12]).await;
    let (busy_state, refusing_state) = (root.path().join("busy"), root.path().join("refusing"));
    let giving_up = format!("batch_items = 5\nbatch_wait = \"20ms\"\ngive_up_after = \"100ms\"\n{HASTY}");
    let text = pipeline.text()
        + &webhook("busy", &busy.url, &busy_state, HASTY)
        + &webhook("refusing", &refusing.url, &refusing_state, &giving_up);
    let (_, result) = run_until(parse(&text), |_| pipeline.is_committed(first + SLOTS - 1)).await;
    result.expect("drained without an error");
    let expected = expected(served.cluster(), SLOTS, |_| true);
    let within = |place: &Place| place.0 < first + SLOTS;
    let of = |messages: &[receiver::Message]| -> BTreeSet<Place> {
        messages.iter().flat_map(|message| places(&message.records())).filter(within).collect()
    };
    let received = busy.received();
    assert!(received[1].at - received[0].at >= Duration::from_secs(1), "the first Retry-After");
    assert!(received[2].at - received[1].at >= Duration::from_secs(1), "the second one");
    assert!(received[..3].iter().all(|message| message.id == received[0].id), "one message, one id");
    assert_eq!(of(&busy.taken()), expected);

    let letters = fs::read_to_string(refusing_state.join("dead_letters.jsonl")).expect("there are some");
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(!letters.is_empty());
    let mut delivered = of(&refusing.taken());
    for letter in &letters {
        assert!(letter["attempts"].as_u64() >= Some(2), "{letter}");
        let tried = refusing.received().iter().filter(|message| letter["id"] == message.id.as_str()).count();
        assert_eq!(
            Some(tried as u64),
            letter["attempts"].as_u64(),
            "the last try is counted, none comes after it"
        );
        let body: Value = serde_json::from_str(letter["body"].as_str().expect("a body")).expect("JSON");
        let dead = places(body["records"].as_array().expect("a list"));
        assert!(dead.iter().all(|place| !delivered.contains(place)));
        delivered.extend(dead.into_iter().filter(within));
    }
    assert_eq!(delivered, expected, "what was not taken is in the dead letters");
}
