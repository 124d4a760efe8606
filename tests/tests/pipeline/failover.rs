//! A group of endpoints of which all but one are killed, frozen and slowed down, in any order: the files are those of a
//! quiet run, and another endpoint is promoted within a second.

mod nginx;
mod schedule;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sluice::runner::Watch;
use sluice_cluster::Lie;
use sluice_cluster::cluster::Config;
use sluice_cluster::faults::Profile;
use sluice_cluster::link::{Link, Proxy};
use sluice_stages::yellowstone::health::EndpointState;

use crate::support::{Lossless, assert_same, audited, files, run_until, serve, small_ledger};

/// Slots that are compared.
const SLOTS: u64 = 200;
/// Slots of a file.
const COMMIT_SLOTS: u64 = 25;
/// Slots behind them: the last one has to become final and to have a child.
const TAIL_SLOTS: u64 = 16;
/// Time of a slot: a tenth of mainnet's, so that an endpoint that stays away is missed for many slots.
const SLOT_TIME: Duration = Duration::from_millis(40);
/// Endpoints of the group.
const ENDPOINTS: usize = 3;
/// What a promotion may take.
const PROMOTION: Duration = Duration::from_secs(1);
/// Later than `max_lag` allows.
const SLOW: Link = Link::Slow(Duration::from_millis(900));

/// Something that happens to one endpoint when the group has shown so many slots.
type Act = (u64, usize, Link);

/// A run whose endpoints' links change as they go.
struct Drama<'a> {
    proxies: &'a [Proxy],
    acts: std::slice::Iter<'a, Act>,
    next: Option<&'a Act>,
    first_slot: u64,
    /// When the endpoint that led was lost, and which one it was.
    lost: Option<(Instant, usize)>,
    promotions: Vec<Duration>,
}

impl<'a> Drama<'a> {
    fn new(proxies: &'a [Proxy], acts: &'a [Act], first_slot: u64) -> Self {
        let mut acts = acts.iter();
        let next = acts.next();
        Self { proxies, acts, next, first_slot, lost: None, promotions: Vec::new() }
    }

    fn look(&mut self, watch: &Watch) {
        let active = |place: usize| watch.endpoints()[place].health.snapshot().state == EndpointState::Active;
        if let Some((since, lost)) = self.lost
            && (0..ENDPOINTS).any(|place| place != lost && active(place))
        {
            self.promotions.push(since.elapsed());
            self.lost = None;
        }
        let shown = watch.endpoints().iter().map(|endpoint| endpoint.health.snapshot().slot).max();
        let shown = shown.unwrap_or_default().saturating_sub(self.first_slot);
        while let Some(&(at, place, link)) = self.next.filter(|(at, ..)| *at <= shown) {
            let alone = active(place) && !(0..ENDPOINTS).any(|other| other != place && active(other));
            self.proxies[place].set(link);
            if alone && matches!(link, Link::Dead | Link::Frozen) {
                self.lost = Some((Instant::now(), place));
            }
            self.next = self.acts.next();
            assert!(at <= SLOTS, "it happens while slots are compared");
        }
    }
}

/// What came of a run.
struct Ended {
    files: BTreeMap<String, Vec<u8>>,
    promotions: Vec<Duration>,
    /// Promotions that began with slots from before.
    overlaps: u64,
}

/// What is run.
#[derive(Clone, Default)]
struct Setting {
    mode: &'static str,
    /// Lines of the source.
    subscribed: &'static str,
    commit_slots: u64,
    /// What endpoints lie about; whoever subscribes to entries proves them.
    lies: Vec<(usize, u64, Lie)>,
    proof: bool,
}

impl Setting {
    /// Transactions alone.
    fn transactions(mode: &'static str) -> Self {
        let subscribed = "transactions = true\n";
        Self { mode, subscribed, commit_slots: COMMIT_SLOTS, ..Self::default() }
    }

    /// All that there is. Files of more slots give extras the time to come by a replay.
    fn everything(mode: &'static str) -> Self {
        let subscribed = "transactions = true\nentries = true\naccounts = true\n";
        Self { mode, subscribed, commit_slots: 2 * COMMIT_SLOTS, ..Self::default() }
    }
}

/// A run whose endpoints fare as `acts` say.
async fn run(setting: &Setting, acts: &[Act]) -> Ended {
    let config = Config {
        endpoints: ENDPOINTS,
        faults: Profile::None,
        slot_time: SLOT_TIME,
        finalized_after: 8,
        mixed_servers: false,
        lies: setting.lies.clone(),
        ..Config::default()
    };
    let served = serve(small_ledger(SLOTS + TAIL_SLOTS), config, ENDPOINTS).await;
    let mut proxies = Vec::new();
    for url in served.grpc_urls() {
        proxies.push(Proxy::start(url).await);
    }
    let root = tempfile::tempdir().expect("a folder");
    let mut pipeline = Lossless::new(&served, root.path(), setting.commit_slots);
    pipeline.urls = proxies.iter().map(|proxy| proxy.url.clone()).collect();
    pipeline.grouped = true;
    pipeline.source = format!(
        "{}mode = \"{}\"\nfailback_after = \"1s\"\nreset_timeout = \"1s\"\n\
         health_check_interval = \"500ms\"\nconnect_timeout = \"1s\"\n",
        setting.subscribed, setting.mode
    );
    pipeline.proof = setting.proof.then(|| "mode = \"enforce\"\n".to_owned());
    let last = pipeline.start_slot + SLOTS - 1;
    let mut drama = Drama::new(&proxies, acts, pipeline.start_slot);
    let (_, result) = run_until(pipeline.plan(), |watch| {
        drama.look(watch);
        pipeline.is_committed(last)
    })
    .await;
    result.expect("drained without an error");
    assert!(drama.next.is_none(), "everything has happened");
    let promotions = std::mem::take(&mut drama.promotions);
    let overlaps = served.progress().replays_along_streams;
    served.shutdown().await.expect("the cluster served to its end");
    assert_eq!(audited(root.path()).slots, SLOTS);
    Ended { files: files(root.path()), promotions, overlaps }
}

/// All but one endpoint fail at a time, each in each way.
const ACTS: &[Act] = &[
    (20, 0, Link::Dead),
    (45, 1, Link::Frozen),
    (75, 0, Link::Fine),
    (80, 2, SLOW),
    (100, 1, Link::Fine),
    (105, 0, Link::Frozen),
    (130, 2, Link::Fine),
    (140, 1, Link::Dead),
    (160, 0, Link::Fine),
    (170, 2, Link::Frozen),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_all_endpoints_but_one_the_files_are_those_of_a_quiet_run() {
    let quiet = run(&Setting::transactions("failover"), &[]).await;
    for mode in ["failover", "hedged", "race"] {
        let Ended { files: stormy, promotions, .. } = run(&Setting::transactions(mode), ACTS).await;
        assert_same(&quiet.files, &stormy, mode);
        let slowest = promotions.iter().max();
        println!("{mode}: {} promotions, {promotions:?}", promotions.len());
        assert!(slowest.is_none_or(|&slowest| slowest <= PROMOTION), "{mode}: {promotions:?}");
        assert!(mode == "race" || promotions.len() >= 2, "{mode}: {promotions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_promoted_within_a_slot_when_the_leader_hangs_up() {
    let acts = [(30, 0, Link::Dead), (90, 0, Link::Fine), (160, 1, Link::Dead)];
    let Ended { promotions, .. } = run(&Setting::transactions("failover"), &acts).await;
    println!("promotions after a hang-up: {promotions:?}");
    // Half of what a slot of mainnet takes, on a machine that does much else.
    assert!(promotions.iter().all(|&took| took < Duration::from_millis(200)), "{promotions:?}");
    assert!(!promotions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_loses_neither_entries_nor_accounts_and_begins_before_what_was_lost() {
    let setting = Setting::everything("failover");
    let quiet = run(&setting, &[]).await;
    let acts = [(40, 0, Link::Dead), (80, 0, Link::Fine), (120, 1, Link::Frozen), (160, 1, Link::Fine)];
    let stormy = run(&setting, &acts).await;
    assert_same(&quiet.files, &stormy.files, "with all kinds");
    assert!(stormy.files.keys().any(|name| name.starts_with("accounts/")));
    assert!(!stormy.promotions.is_empty() && stormy.overlaps > 0, "{} replays", stormy.overlaps);
}
