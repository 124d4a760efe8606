//! `webhook`: POSTs records of blocks, notices of alerts and samples to an HTTP receiver, at least once.
//!
//! ```text
//!                 ┌─ blocks, samples ─→ records (rayon) ─→ messages ─→ [4] ─→ courier ─→ cursor (synced)
//!  inbox ─ task ──┤                                                             │ one breaker, one pool
//!                 └─ notices ─→ [max_queued_notices, synced] ─→ rate limit ─→ body ─→ courier ─→ dead letters (synced)
//! ```
//!
//! Messages have the headers of [Standard Webhooks](https://www.standardwebhooks.com): `webhook-id` (an idempotency key:
//! the same for the same records, on every try), `webhook-timestamp`, and `webhook-signature` if there is a signing
//! secret. 2xx means delivered. Network errors, 408, 425, 429 and 5xx are tried again, `Retry-After` respected; every other
//! answer, redirects included, makes the message a dead letter.
//!
//! With a `state_path` the cursor says behind which slot a restart goes on: what was delivered right before a crash may be
//! delivered again, nothing is left out. A message is stored before it is sent, so it comes again as the same message, under
//! the same id, in whichever order its slots come then. A body is
//! `{"type":"records","first_slot":…,"last_slot":…,"count":…,"records":[…]}`.
//!
//! Notices that wait are in the state folder, too, and the next run tells them under the same ids: the alert evaluator
//! counts them as told. Without a `state_path` they are lost with the process, which the log says (`kept=false`). What the
//! rate limit holds back waits for room, the newest notice of each group for those before it, so the end of an alert that
//! was told is always told. What has no place is let go, what fires first, and is told in a summary (`notices_held_back`)
//! that fires until nothing is held back any more.
//!
//! `min_severity` is about alerts: milder ones are left out of a notice, and a notice that is left with none is not sent.
//!
//! **A slow or dead receiver.** Notices have a bounded queue of their own and hold nobody up. Records don't get lost: when
//! the receiver does not take them, this sink stops reading, its edge fills, and with `when_full = "block"` (the default)
//! the whole pipeline waits for it, Parquet included. Where the receiver may miss records but must not hold up files, say
//! `when_full = "drop_newest"` in the node; what is dropped is counted (`edge_dropped_items_total`) and is fetched again
//! only after a restart, since the cursor stays in front of it. A webhook that tells of alerts should be a node of its own.

mod compose;
mod firing;
mod http;
mod intake;
mod lane;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::Secret;
use sluice_stages::component::{
    Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role, Start,
};
use sluice_stages::http_url;
use sluice_stages::stage::Flow;
use url::Url;

pub use self::compose::AlertFormat;
use crate::delivery::batches::BatchLimits;
use crate::delivery::cursor::{self, CursorFile};
use crate::delivery::dead_letters::DeadLetters;
use crate::delivery::options::{problem, zero};
use crate::delivery::signing::Signer;
use crate::delivery::state_folder::StateFolder;
use crate::delivery::template::Template;
use crate::delivery::{FilterOptions, RecordKind, RetryOptions};
use sink::{WebhookSink, WebhookState};

/// The intake of Alertmanager's API.
const INTAKE_PATH: &str = "/api/v2/alerts";

/// Options of `webhook`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookOptions {
    /// Where to POST to, `https://…` or `http://…`. Never shown: many receivers put a token into it.
    pub url: Secret,
    /// Headers of one's own, such as `Authorization`. Never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Secrets that messages are signed with, `whsec_` and base64 of 24 to 64 bytes. Two while one replaces the other.
    #[serde(default)]
    pub signing_secrets: Vec<Secret>,
    /// What is delivered: any of `transactions`, `blocks`, `skipped_slots`, `alerts`, `samples`. Default all that comes.
    #[serde(default = "all_records")]
    pub records: Vec<RecordKind>,
    /// Which transactions and notices are delivered. Default all.
    #[serde(default)]
    pub filters: FilterOptions,
    /// Most records of a message. Default 500.
    #[serde(default = "default_batch_items")]
    pub batch_items: usize,
    /// Most bytes of a message's records; a larger record goes alone. Default 512 KiB: most receivers refuse bodies of
    /// more than 1 MiB.
    #[serde(default = "default_batch_bytes", with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub batch_bytes: usize,
    /// The longest that a record waits for others. Default 1s.
    #[serde(default = "default_batch_wait", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub batch_wait: Duration,
    /// How a receiver that does not take a message is tried again.
    #[serde(default)]
    pub retry: RetryOptions,
    /// How long a message of records is tried before it becomes a dead letter. Default for as long as it takes.
    #[serde(
        default,
        with = "sluice_config::units::option_duration",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub give_up_after: Option<Duration>,
    /// How long a notice is tried before it becomes a dead letter. Default 1h: later than that it is no news.
    #[serde(default = "default_notice_give_up", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub notice_give_up_after: Duration,
    /// Notices that may wait for the receiver; what fires beyond that is only summed up. Default 256.
    #[serde(default = "default_max_queued_notices")]
    pub max_queued_notices: usize,
    /// Notices that are told in a minute; more wait for room, the newest of each group for those before it. Default 60.
    #[serde(default = "default_max_notices_per_minute")]
    pub max_notices_per_minute: u32,
    /// What bodies of notices look like: `sluice` (default), `alertmanager` (what it sends to webhooks, version 4) or
    /// `alertmanager_v2` (what it takes at `/api/v2/alerts`; that path is added if the url has none).
    #[serde(default)]
    pub format: AlertFormat,
    /// A body of one's own for notices: a minijinja template over the fields of the `sluice` format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What the template's text is. Default `application/json`.
    #[serde(default = "default_content_type")]
    pub content_type: String,
    /// Where people can look at an alert, for Alertmanager's formats. Default none.
    #[serde(default)]
    pub external_url: String,
    /// Folder for the cursor, the notices that wait and the dead letters; belongs to this sink alone. Without it a restart
    /// begins at the tip, notices that wait are lost with the process, and what is refused is only logged. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_path: Option<PathBuf>,
    /// Most bytes of the dead letters; when they are reached, what is refused is tried again and again. Default 1 GiB.
    #[serde(default = "default_dead_letter_bytes", with = "sluice_config::units::bytes")]
    #[schemars(with = "String")]
    pub dead_letter_max_bytes: u64,
    /// How long the receiver has to take what is left when the pipeline ends. Default 10s; the rest, notices included, is
    /// delivered by the next run if there is a `state_path`, and lost without one.
    #[serde(default = "default_drain_timeout", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub drain_timeout: Duration,
}

fn all_records() -> Vec<RecordKind> {
    RecordKind::ALL.to_vec()
}

fn default_batch_items() -> usize {
    500
}

fn default_batch_bytes() -> usize {
    512 << 10
}

fn default_batch_wait() -> Duration {
    Duration::from_secs(1)
}

fn default_notice_give_up() -> Duration {
    Duration::from_secs(3_600)
}

fn default_max_queued_notices() -> usize {
    256
}

fn default_max_notices_per_minute() -> u32 {
    60
}

fn default_content_type() -> String {
    "application/json".to_owned()
}

fn default_dead_letter_bytes() -> u64 {
    1 << 30
}

fn default_drain_timeout() -> Duration {
    Duration::from_secs(10)
}

impl WebhookOptions {
    /// The url, if it is one.
    fn parsed_url(&self) -> Option<Url> {
        let mut url = http_url::parse(self.url.expose()).ok()?;
        if self.format == AlertFormat::AlertmanagerV2 && !url.path().ends_with(INTAKE_PATH) {
            let path = format!("{}{INTAKE_PATH}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Some(url)
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits { items: self.batch_items, bytes: self.batch_bytes, wait: self.batch_wait }
    }

    fn text_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.parsed_url().is_none() {
            let help = "write it like \"https://hooks.example.com/sluice\"";
            problems.push(problem("url", "it is not an address of HTTP", help));
        }
        if let Err(name) = http::headers(&self.headers) {
            let help = "use visible ASCII, without spaces in the name and without line breaks in the value";
            problems.push(problem("headers", format!("`{name}` is not a header"), help));
        }
        if let Err((position, error)) = Signer::try_new(&self.signing_secrets) {
            let help = "make one with `echo whsec_$(openssl rand -base64 32)`";
            problems.push(problem("signing_secrets", format!("secret {}: {error}", position + 1), help));
        }
        if let Some(Err(error)) = self.template.as_deref().map(Template::try_new) {
            problems.push(problem(
                "template",
                error,
                "see the syntax of Jinja; fields are those of the default body",
            ));
        }
        if ::http::HeaderValue::try_from(&self.content_type).is_err() {
            problems.push(problem("content_type", "it is not a header's value", "use \"application/json\""));
        }
        problems
    }
}

impl Component for WebhookOptions {
    const KIND: &'static str = "webhook";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::AnyOf(&[Flow::Blocks, Flow::Alerts, Flow::Samples]);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "POSTs records and alerts to an HTTP receiver, signed, at least once";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.text_problems();
        problems.extend(self.filters.problems());
        problems.extend(zero("batch_items", self.batch_items == 0));
        problems.extend(zero("batch_bytes", self.batch_bytes == 0));
        problems.extend(self.retry.problems());
        problems.extend(zero("max_queued_notices", self.max_queued_notices == 0));
        problems.extend(zero("max_notices_per_minute", self.max_notices_per_minute == 0));
        problems
    }

    fn claims(&self) -> Vec<PathBuf> {
        self.state_path.iter().cloned().collect()
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let client = http::client(context)?;
        let most_bytes = self.dead_letter_max_bytes;
        let state = self.state_path.as_deref().map(|path| open_state(path, most_bytes)).transpose()?;
        if let Some(position) = state.as_ref().and_then(|state| state.position.as_ref()) {
            context.begin_with(Start::At(position.next_slot));
        }
        let sink = WebhookSink::try_new(self, client, state);
        Ok(Node::Sink(Box::new(sink.map_err(BuildError::Other)?)))
    }
}

/// What is in `folder`, which is made if it is not there.
fn open_state(path: &std::path::Path, dead_letter_max_bytes: u64) -> Result<WebhookState, BuildError> {
    let folder = StateFolder::open(path)?;
    let file = CursorFile::new(path.join(cursor::FILE_NAME));
    let position = file.load().map_err(|source| BuildError::Io { path: file.path().to_owned(), source })?;
    Ok(WebhookState { folder, file, position, letters: DeadLetters::new(path, dead_letter_max_bytes) })
}
