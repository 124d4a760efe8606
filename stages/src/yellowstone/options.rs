//! The options of a Yellowstone source.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::secret::Secret;

use super::connection::Policy;
use super::endpoints::{ListedEndpoint, Member, Mode};
use super::filters::{
    AccountFilterOptions, BlockFilterOptions, BlockFooterFilterOptions, BlockMetaFilterOptions,
    DataSliceOptions, EntryFilterOptions, Selection, SlotFilterOptions, TransactionFilterOptions,
};
use super::problems;
use super::source::YellowstoneSource;
use crate::batch::{Scope, Want};
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::stage::Flow;

/// A subscription to one endpoint or a group, at processed: later commitment is decided inside the pipeline.
///
/// Without any filter it asks for all transactions, votes and failed ones included.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct YellowstoneOptions {
    /// The server, `https://host[:port]` or `http://host:port`. Either this or `endpoints`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Several servers that are managed as a group, in place of `url`; they share the other options. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<ListedEndpoint>,
    /// How the endpoints of a list work together. Default race.
    #[serde(default)]
    pub mode: Mode,
    /// Token sent as `x-token`. Default: none. Take it from the environment: `x_token = "${TOKEN}"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x_token: Option<Secret>,
    /// More headers sent with each request. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// TLS; for `https` urls the system's and Mozilla's roots are trusted without it.
    #[serde(default)]
    pub tls: TlsOptions,
    /// What the server may compress with. Default: nothing: gzip and zstd cost more than the network on most links.
    #[serde(default)]
    pub compression: Compression,
    /// Where the endpoint is: its name in a list, a column of `sluice endpoints`, of the API and of the dashboard, and a label of
    /// the metric `endpoint_info`. It decides nothing; `priority` and measured latency do. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,

    /// Longest time to get a connection. Default 10s: three lost SYNs.
    #[serde(default = "default_connect_timeout", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// Time without HTTP/2 traffic after which a ping is sent. Default 10s: load balancers drop idle connections after 60s
    /// or more.
    #[serde(default = "default_keepalive_interval", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub keepalive_interval: Duration,
    /// Longest time for the answer to that ping. Default 10s.
    #[serde(default = "default_keepalive_timeout", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub keepalive_timeout: Duration,
    /// Time between pings of the protocol's own, which proxies that end HTTP/2 pass through. Default 15s.
    #[serde(default = "default_ping_interval", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub ping_interval: Duration,
    /// Longest time without any message. Default 30s: servers ping every 10 to 15s.
    #[serde(default = "default_idle_timeout", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
    /// Longest time without a new slot, whatever else comes. Default 20s: 50 slots; the chain itself rarely rests longer.
    #[serde(default = "default_progress_timeout", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub progress_timeout: Duration,
    /// Shortest time between two tries to connect. Default 100ms.
    #[serde(default = "default_reconnect_min", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub reconnect_min: Duration,
    /// Longest time between two tries; they never end. Default 10s: long enough to do no harm, short enough to be back soon.
    #[serde(default = "default_reconnect_max", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub reconnect_max: Duration,

    /// Time between two health checks of an endpoint: version, ping, newest slot. Default 30s.
    #[serde(default = "default_health_check_interval", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub health_check_interval: Duration,
    /// Failures in a row after which an endpoint of a list is left alone. Default 5.
    #[serde(default = "default_error_threshold")]
    pub error_threshold: u32,
    /// How long it is left alone before one trial. Default 30s.
    #[serde(default = "default_reset_timeout", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub reset_timeout: Duration,
    /// How much later than another endpoint of the list one may show a slot before another takes over. Default 500ms:
    /// more than any way around the globe, and little more than a slot takes.
    #[serde(default = "default_max_lag", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub max_lag: Duration,
    /// How long a preferred endpoint has to do well before it takes over again. Default 30s: an endpoint that comes and
    /// goes is not followed.
    #[serde(default = "default_failback_after", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub failback_after: Duration,
    /// How long an endpoint of a list is not used after its data was proven wrong again and again. Default 10m.
    #[serde(default = "default_quarantine", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub quarantine: Duration,
    /// Requests each second to one endpoint: health checks, subscriptions, replays. Default: as the pipeline's profile
    /// says, 50 if it says nothing.
    #[serde(default = "default_max_requests_per_second")]
    pub max_requests_per_second: u32,
    /// Requests at once before they are spaced out. Default 100.
    #[serde(default = "default_burst")]
    pub burst: u32,

    /// Largest message that is accepted, on the wire and unpacked. Default 256 MiB: blocks at an epoch's boundary are 60 to
    /// 100 MB.
    #[serde(default = "default_max_message_bytes", with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub max_message_bytes: u32,
    /// HTTP/2 flow-control window of a stream. It bounds what is on its way: round-trip time × rate. Default: all windows
    /// together a quarter of `memory_limit`, each 16 MiB at most: 80 MB/s, four times mainnet's transactions, at 200 ms.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "sluice_config::units::option_bytes")]
    #[schemars(with = "Option<String>")]
    pub window_bytes: Option<u32>,

    /// Transactions with their metadata. Default: all, if no filter of any kind is given.
    #[serde(default)]
    pub transactions: Selection<TransactionFilterOptions>,
    /// Outcomes of transactions without the transactions. Default: none.
    #[serde(default)]
    pub transactions_status: Selection<TransactionFilterOptions>,
    /// Account writes. Default: none.
    #[serde(default)]
    pub accounts: Selection<AccountFilterOptions>,
    /// Parts of account data sent instead of the whole. Default: the whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts_data_slice: Vec<DataSliceOptions>,
    /// Entries, which the proof of history needs. Default: none.
    #[serde(default)]
    pub entries: Selection<EntryFilterOptions>,
    /// Whole blocks in one message. Default: none.
    #[serde(default)]
    pub blocks: Selection<BlockFilterOptions>,
    /// Block metas for sinks; the pipeline has its own. Default: none.
    #[serde(default)]
    pub blocks_meta: Selection<BlockMetaFilterOptions>,
    /// Slot statuses for sinks; the pipeline has its own. Default: none.
    #[serde(default)]
    pub slots: Selection<SlotFilterOptions>,
    /// Alpenglow block footers. Default: none.
    #[serde(default)]
    pub block_footer: Selection<BlockFooterFilterOptions>,
}

/// How the server's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsOptions {
    /// PEM file of the only authorities to trust. Default: the system's and Mozilla's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate has to have. Default: the url's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// What a server may compress its messages with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// zstd, at a fifth of gzip's cost; not every server has it.
    Zstd,
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_keepalive_interval() -> Duration {
    Duration::from_secs(10)
}

fn default_keepalive_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_ping_interval() -> Duration {
    Duration::from_secs(15)
}

fn default_idle_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_progress_timeout() -> Duration {
    Duration::from_secs(20)
}

fn default_reconnect_min() -> Duration {
    Duration::from_millis(100)
}

fn default_reconnect_max() -> Duration {
    Duration::from_secs(10)
}

fn default_health_check_interval() -> Duration {
    Duration::from_secs(30)
}

fn default_error_threshold() -> u32 {
    5
}

fn default_reset_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_max_lag() -> Duration {
    Duration::from_millis(500)
}

fn default_failback_after() -> Duration {
    Duration::from_secs(30)
}

fn default_quarantine() -> Duration {
    Duration::from_secs(600)
}

fn default_max_requests_per_second() -> u32 {
    50
}

fn default_burst() -> u32 {
    100
}

fn default_max_message_bytes() -> u32 {
    256 << 20
}

impl YellowstoneOptions {
    /// The defaults, for the server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoints: Vec::new(),
            mode: Mode::default(),
            x_token: None,
            headers: BTreeMap::new(),
            tls: TlsOptions::default(),
            compression: Compression::default(),
            region: None,
            connect_timeout: default_connect_timeout(),
            keepalive_interval: default_keepalive_interval(),
            keepalive_timeout: default_keepalive_timeout(),
            ping_interval: default_ping_interval(),
            idle_timeout: default_idle_timeout(),
            progress_timeout: default_progress_timeout(),
            reconnect_min: default_reconnect_min(),
            reconnect_max: default_reconnect_max(),
            health_check_interval: default_health_check_interval(),
            error_threshold: default_error_threshold(),
            reset_timeout: default_reset_timeout(),
            max_lag: default_max_lag(),
            failback_after: default_failback_after(),
            quarantine: default_quarantine(),
            max_requests_per_second: default_max_requests_per_second(),
            burst: default_burst(),
            max_message_bytes: default_max_message_bytes(),
            window_bytes: None,
            transactions: Selection::default(),
            transactions_status: Selection::default(),
            accounts: Selection::default(),
            accounts_data_slice: Vec::new(),
            entries: Selection::default(),
            blocks: Selection::default(),
            blocks_meta: Selection::default(),
            slots: Selection::default(),
            block_footer: Selection::default(),
        }
    }

    /// The transactions asked for: all, if no filter of any kind is given.
    pub fn selected_transactions(&self) -> &Selection<TransactionFilterOptions> {
        if self.asks_for_nothing() { &Selection::Everything } else { &self.transactions }
    }

    /// How much is asked for of what slots are made of.
    pub fn scope(&self) -> Scope {
        let sliced = !self.accounts_data_slice.is_empty();
        Scope {
            transactions: self.selected_transactions().want(TransactionFilterOptions::takes_all),
            entries: self.entries.want(|_| true),
            accounts: match self.accounts.want(AccountFilterOptions::takes_all) {
                Want::Everything if sliced => Want::Filtered,
                want => want,
            },
        }
    }

    /// When to connect, wait and give a connection up.
    pub fn policy(&self) -> Policy {
        Policy {
            reconnect_min: self.reconnect_min,
            reconnect_max: self.reconnect_max,
            idle_timeout: self.idle_timeout,
            progress_timeout: self.progress_timeout,
            ping_interval: self.ping_interval,
        }
    }

    fn asks_for_nothing(&self) -> bool {
        self.transactions.is_nothing()
            && self.transactions_status.is_nothing()
            && self.accounts.is_nothing()
            && self.entries.is_nothing()
            && self.blocks.is_nothing()
            && self.blocks_meta.is_nothing()
            && self.slots.is_nothing()
            && self.block_footer.is_nothing()
    }
}

impl Component for YellowstoneOptions {
    const KIND: &'static str = "yellowstone";
    const ROLE: Role = Role::Source;
    const ACCEPTS: Accepts = Accepts::Nothing;
    const EMITS: Emits = Emits::Only(Flow::Updates);
    const SUMMARY: &'static str =
        "subscribes to one Yellowstone gRPC endpoint or a managed group and stays subscribed";

    fn problems(&self) -> Vec<Problem> {
        problems::of(self)
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        if let Some(path) = &self.tls.ca_file {
            // Read again at each connect, so that it can be renewed; read here, so that a wrong path is told at once.
            fs::metadata(path).map_err(|source| BuildError::Io { path: path.clone(), source })?;
        }
        let scope = self.scope();
        context.scope = union(context.scope, scope);
        let (policy, source) = (self.group_policy(), context.node.clone());
        let mut members = Vec::new();
        for Member { name, options, policy } in self.members(&source) {
            members.push((context.register(name, options)?, policy));
        }
        Ok(Node::Source(Box::new(YellowstoneSource::new(members, policy, scope))))
    }
}

/// The scope of two subscriptions taken together.
pub fn union(first: Scope, second: Scope) -> Scope {
    Scope {
        transactions: first.transactions.max(second.transactions),
        entries: first.entries.max(second.entries),
        accounts: first.accounts.max(second.accounts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> YellowstoneOptions {
        toml::from_str(&format!("url = 'https://host'\n{text}")).expect("valid options")
    }

    #[test]
    fn without_filters_all_transactions_are_asked_for() {
        let scope = options("").scope();
        assert_eq!(scope, Scope { transactions: Want::Everything, ..Scope::default() });
        assert_eq!(options("entries = true").scope().transactions, Want::Nothing);
    }

    #[test]
    fn sliced_accounts_are_not_all_of_the_accounts() {
        let sliced = options("accounts = true\naccounts_data_slice = [{ offset = 0, length = 8 }]");
        assert_eq!(sliced.scope().accounts, Want::Filtered);
        assert_eq!(options("accounts = true").scope().accounts, Want::Everything);
    }

    #[test]
    fn defaults_are_the_same_from_code_and_from_toml() {
        let from_code = toml::to_string(&YellowstoneOptions::new("https://host")).expect("serializable");
        assert_eq!(toml::to_string(&options("")).expect("serializable"), from_code);
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = options("x_token = 'hunter2'\nheaders = { authorization = 'hunter2' }");
        let shown = format!("{options:?}{}", toml::to_string(&options).expect("serializable"));
        assert!(!shown.contains("hunter2"));
    }
}
