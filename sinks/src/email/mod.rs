//! `email`: sends a mail for each notice of an alert.
//!
//! ```text
//!  inbox ─ task ─→ [max_queued_notices, synced] ─→ rate limit ─→ mail (text and HTML) ─→ courier ─→ SMTP
//!                                                                                          └ refused: dead letters (synced)
//! ```
//!
//! An address that the server refuses keeps the mail from nobody else: it is logged and counted
//! (`delivery_refused_recipients_total`). One that it puts off is tried again by itself.
//!
//! Mails of one group make a thread (`References`), each has an id that is the same on every try, so that a mail that was
//! sent twice can be told. A server that is slow or dead holds nobody up: what does not fit the queue is summed up in one
//! mail. With a `state_path` the next run mails what still waits when this one ends.

mod compose;
mod dialog;
mod smtp;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::Secret;
use sluice_stages::alert::{AlertItem, Severity};
use sluice_stages::batch::Item;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use sluice_stages::edge::Inbox;
use sluice_stages::node::{NodeContext, NodeError, Sink};
use sluice_stages::stage::Flow;
use tokio::task::JoinSet;

use crate::delivery::RetryOptions;
use crate::delivery::alert_record::Teller;
use crate::delivery::counters::Counters;
use crate::delivery::courier::{Courier, Service, expire_after};
use crate::delivery::dead_letters::DeadLetters;
use crate::delivery::notices;
use crate::delivery::options::{problem, zero};
use crate::delivery::state_folder::StateFolder;
use crate::delivery::waiting::{Kept, Waiting};
use compose::Composer;
use smtp::Server;

/// Most bytes of the dead letters: mails are some ten kilobytes.
const DEAD_LETTER_MAX_BYTES: u64 = 64 << 20;
/// Most bytes of `ca_file` that are read: a bundle of all public authorities is a fifth of that.
const MAX_CA_BYTES: u64 = 1 << 20;

/// How the connection to the server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmailTls {
    /// From the first byte on; port 465.
    Tls,
    /// From the server's greeting on, and not without; port 587.
    #[default]
    Starttls,
    /// Not at all; port 25. For a server on this machine.
    None,
}

/// Options of `email`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailOptions {
    /// The SMTP server's name, e.g. `smtp.example.com`.
    pub server: String,
    /// Its port. Default 587, 465 with `tls = "tls"`, 25 with `tls = "none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `starttls` (default), `tls` or `none`.
    #[serde(default)]
    pub tls: EmailTls,
    /// A file with a certificate in PEM that is trusted beside those of the system. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Who logs in. Default nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password. Never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The sender, e.g. `Sluice <sluice@example.com>`.
    pub from: String,
    /// Who gets the mails. One whom the server refuses is left out, and told by the log and a counter.
    pub to: Vec<String>,
    /// What subjects begin with. Default `[sluice]`.
    #[serde(default = "default_subject_prefix")]
    pub subject_prefix: String,
    /// Where people can look at an alert; a link at the end of mails. Default none.
    #[serde(default)]
    pub external_url: String,
    /// Alerts that are at least this bad: `info` (default), `warning`, `error` or `critical`. Milder ones are left out of a
    /// notice, and a notice that is left with none is not sent.
    #[serde(default = "default_min_severity")]
    pub min_severity: Severity,
    /// How a server that does not take a mail is tried again.
    #[serde(default)]
    pub retry: RetryOptions,
    /// How long a mail is tried before it becomes a dead letter. Default 1h: later than that it is no news.
    #[serde(default = "default_give_up_after", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub give_up_after: Duration,
    /// Notices that may wait for the server; what fires beyond that is only summed up. Default 256.
    #[serde(default = "default_max_queued_notices")]
    pub max_queued_notices: usize,
    /// Mails that are sent in a minute; more wait for room, the newest of each group for those before it. Default 10.
    #[serde(default = "default_max_notices_per_minute")]
    pub max_notices_per_minute: u32,
    /// Folder for the notices that wait and the dead letters; belongs to this sink alone. Without it notices that wait are
    /// lost with the process, and what is refused is only logged. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_path: Option<PathBuf>,
    /// How long the server has to take what is left when the pipeline ends. Default 10s; the rest is mailed by the next run
    /// if there is a `state_path`, and lost without one.
    #[serde(default = "default_drain_timeout", with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    pub drain_timeout: Duration,
}

fn default_subject_prefix() -> String {
    "[sluice]".to_owned()
}

fn default_min_severity() -> Severity {
    Severity::Info
}

fn default_give_up_after() -> Duration {
    Duration::from_secs(3_600)
}

fn default_max_queued_notices() -> usize {
    256
}

fn default_max_notices_per_minute() -> u32 {
    10
}

fn default_drain_timeout() -> Duration {
    Duration::from_secs(10)
}

impl EmailOptions {
    fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            EmailTls::Tls => 465,
            EmailTls::Starttls => 587,
            EmailTls::None => 25,
        })
    }

    fn address_problems(&self) -> Vec<Problem> {
        let help = "write it like \"ops@example.com\" or \"Ops <ops@example.com>\"";
        let mut problems = Vec::new();
        if self.from.parse::<Mailbox>().is_err() {
            problems.push(problem("from", format!("`{}` is not an address", self.from), help));
        }
        if let Some(wrong) = self.to.iter().find(|to| to.parse::<Mailbox>().is_err()) {
            problems.push(problem("to", format!("`{wrong}` is not an address"), help));
        }
        if self.to.is_empty() {
            problems.push(problem("to", "nobody would get the mails", help));
        }
        problems
    }

    fn login_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.username.is_some() != self.password.is_some() {
            let message = "a user name and a password go together";
            problems.push(problem("password", message, "give both, or neither"));
        }
        let here = matches!(self.server.as_str(), "localhost" | "127.0.0.1" | "::1");
        if self.tls == EmailTls::None && self.password.is_some() && !here {
            let help = "use \"starttls\" or \"tls\"; only a server on this machine may go without";
            problems.push(problem("tls", "the password would be sent for everybody to read", help));
        }
        problems
    }

    fn mailboxes(&self) -> Result<(Mailbox, Vec<Mailbox>), BuildError> {
        let parse = |text: &String| {
            text.parse::<Mailbox>().map_err(|error| BuildError::Other(format!("`{text}`: {error}")))
        };
        Ok((parse(&self.from)?, self.to.iter().map(parse).collect::<Result<_, _>>()?))
    }

    fn read_ca(&self) -> Result<Option<Vec<u8>>, BuildError> {
        use std::io::Read as _;
        let Some(path) = &self.ca_file else { return Ok(None) };
        let mut pem = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_CA_BYTES).read_to_end(&mut pem))
            .map_err(|source| BuildError::Io { path: path.clone(), source })?;
        Ok(Some(pem))
    }
}

impl Component for EmailOptions {
    const KIND: &'static str = "email";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::Only(Flow::Alerts);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "mails alerts over SMTP, a thread for each group";

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.server.is_empty() || self.server.contains([' ', '/', '@']) {
            let help = "write its name alone, like \"smtp.example.com\"; the port is an option of its own";
            problems.push(problem("server", format!("`{}` is not a server's name", self.server), help));
        }
        problems.extend(self.address_problems());
        problems.extend(self.login_problems());
        problems.extend(self.retry.problems());
        problems.extend(zero("max_queued_notices", self.max_queued_notices == 0));
        problems.extend(zero("max_notices_per_minute", self.max_notices_per_minute == 0));
        problems
    }

    fn claims(&self) -> Vec<PathBuf> {
        self.state_path.iter().cloned().collect()
    }

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        // Only the first of a process is taken; they are all the same.
        rustls::crypto::ring::default_provider().install_default().ok();
        let state = self.state_path.as_deref().map(StateFolder::open).transpose()?;
        let (from, to) = self.mailboxes()?;
        let ca = self.read_ca()?;
        let server = Server::try_new(&self, &from, &to, ca.as_deref()).map_err(BuildError::Other)?;
        Ok(Node::Sink(Box::new(EmailSink { options: self, server, state, from, to })))
    }
}

/// The sink, ready to run.
struct EmailSink {
    options: EmailOptions,
    server: Server,
    state: Option<StateFolder>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Sink for EmailSink {
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        Box::pin(run(*self, inbox, context))
    }
}

async fn run(sink: EmailSink, mut inbox: Inbox, context: NodeContext) -> Result<(), NodeError> {
    let EmailSink { options, server, state, from, to } = sink;
    let letters = options.state_path.as_deref().map(|path| DeadLetters::new(path, DEAD_LETTER_MAX_BYTES));
    let counters = Arc::new(Counters::default());
    let (receiver, stragglers, queue) = smtp::receivers(server, &counters);
    let service = Service { counters, ..Service::new(&context, Arc::new(receiver), &options.retry, letters) };
    let (counters, expired) = (Arc::clone(&service.counters), service.expired.clone());
    let mut tasks = JoinSet::new();
    let stragglers = Arc::new(stragglers);
    let courier = Courier::new(
        Service { receiver: Arc::clone(&stragglers) as _, ..service.clone() },
        Some(options.give_up_after),
    );
    tasks.spawn(smtp::bring_stragglers(stragglers, queue, courier));
    let mut attendants = service.attend(&context, options.drain_timeout);
    let teller = Teller { pipeline: context.watch.pipeline().to_owned(), channel: context.name.clone() };
    let composer = Composer::try_new(from, to, options.subject_prefix, options.external_url, teller);
    let composer = composer.map_err(NodeError::Fatal)?;
    let (file, kept, lock) = match state {
        Some(state) => (Some(state.waiting_file), state.waiting, Some(state.lock)),
        None => (None, Kept::default(), None),
    };
    let most = Some(options.max_notices_per_minute);
    let waiting = Waiting::new(&context.name, options.max_queued_notices, most, kept);
    let courier = Courier::new(service, Some(options.give_up_after));
    let queue = notices::start(waiting, file, Arc::new(composer), courier, &mut tasks);
    while let Some((_, batch)) = inbox.recv().await {
        for item in &batch {
            if let Item::Alert(alert) = item
                && let AlertItem::Notice(notice) = &**alert
                && let Some(notice) = notice.at_least(options.min_severity)
            {
                queue.push(notice.into_owned());
            }
        }
    }
    drop(queue);
    attendants.spawn(expire_after(options.drain_timeout, expired));
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|_| NodeError::Fatal("the courier panicked".to_owned()))?;
    }
    context.metrics.show(|show| counters.metrics(show));
    drop(lock);
    Ok(())
}
