//! The SMTP server as a receiver: one try, and what its answers mean.
//!
//! ```text
//!  mail ─→ MAIL ─→ RCPT, one for each who has it not yet ─→ DATA ─→ delivered
//!                    ├ 5xx: nobody of that name, told by itself; the others get it
//!                    └ 4xx: later ─→ stragglers (bounded) ─→ a courier of their own ─→ the same, for them alone
//! ```
//!
//! So one address that is refused keeps nobody from the mail, one that is put off holds up no other mail, and nobody
//! gets it twice. Who has a mail already is known to this run only: the next one sends what was not finished to all.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use sluice_stages::slot::Timestamp;
use tokio::sync::mpsc;

use super::dialog::{Dialog, Put};
use super::{EmailOptions, EmailTls};
use crate::delivery::counters::{Counters, add};
use crate::delivery::courier::{Courier, Message, Receiver};
use crate::delivery::retry::Verdict;

/// Mails that some of their recipients are to get later; when there are more, the next mail waits for them.
const MAX_STRAGGLERS: usize = 64;

/// The server, and who gets the mails.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Tls,
    pub(super) credentials: Option<Credentials>,
    pub(super) timeout: Duration,
    pub(super) from: Address,
    to: Vec<Address>,
    place: String,
}

/// The server as a courier sees it.
pub(super) struct SmtpReceiver {
    server: Arc<Server>,
    /// Who is still to get a mail, by its id, if some have it.
    remaining: Arc<Mutex<BTreeMap<String, Vec<Address>>>>,
    /// Where mails go that some are to get later; none for the courier that brings those.
    stragglers: Option<mpsc::Sender<Message>>,
    counters: Arc<Counters>,
}

impl Server {
    /// The server of `options`, for mails from `from` to `to`; `ca` is a certificate in PEM that is trusted, too.
    ///
    /// # Errors
    /// What is wrong with the certificate.
    pub(super) fn try_new(
        options: &EmailOptions,
        from: &Mailbox,
        to: &[Mailbox],
        ca: Option<&[u8]>,
    ) -> Result<Self, String> {
        let login = options.username.as_ref().zip(options.password.as_ref());
        Ok(Self {
            host: options.server.clone(),
            port: options.port(),
            tls: tls(options, ca)?,
            credentials: login.map(|(name, word)| Credentials::new(name.clone(), word.expose().to_owned())),
            timeout: options.retry.timeout,
            from: from.email.clone(),
            to: to.iter().map(|mailbox| mailbox.email.clone()).collect(),
            place: format!("{}:{}", options.server, options.port()),
        })
    }
}

/// The receivers for a server: that of the mails, that of the stragglers, and the mails that come to be such.
pub(super) fn receivers(
    server: Server,
    counters: &Arc<Counters>,
) -> (SmtpReceiver, SmtpReceiver, mpsc::Receiver<Message>) {
    let (sender, queue) = mpsc::channel(MAX_STRAGGLERS);
    let (server, remaining) = (Arc::new(server), Arc::default());
    let receiver = |stragglers| SmtpReceiver {
        server: Arc::clone(&server),
        remaining: Arc::clone(&remaining),
        stragglers,
        counters: Arc::clone(counters),
    };
    (receiver(Some(sender)), receiver(None), queue)
}

/// Brings mails to those who were to get them later, one after the other, until no more can come.
pub(super) async fn bring_stragglers(
    receiver: Arc<SmtpReceiver>,
    mut queue: mpsc::Receiver<Message>,
    mut courier: Courier,
) {
    while let Some(message) = queue.recv().await {
        courier.deliver(&message).await;
        receiver.remaining().remove(&message.id);
    }
}

impl SmtpReceiver {
    async fn send(&self, message: &Message) -> Verdict {
        match tokio::time::timeout(self.server.timeout, self.put(message)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => verdict_of(&error),
            Err(_) => {
                let reason = format!("no answer within {:?}", self.server.timeout);
                Verdict::Retry { reason, after: None }
            }
        }
    }

    async fn put(&self, message: &Message) -> Result<Verdict, Error> {
        let known = self.remaining().get(&message.id).cloned();
        let to = known.unwrap_or_else(|| self.server.to.clone());
        let mut dialog = Dialog::open(&self.server).await?;
        let put = dialog.put(&self.server.from, &to, &message.body).await;
        dialog.close().await;
        Ok(self.judge(message, put?))
    }

    fn judge(&self, message: &Message, put: Put) -> Verdict {
        let Put { taken, refused, later } = put;
        for (address, error) in &refused {
            let (id, reason) = (&message.id, reason_of(error));
            add(&self.counters.refused_recipients, 1);
            tracing::error!(id, receiver = self.server.place, %address, reason, "a recipient is refused and does not get the mail");
        }
        let later_reason = later.first().map(|(address, error)| format!("{address}: {}", reason_of(error)));
        let remaining: Vec<_> = later.into_iter().map(|(address, _)| address).collect();
        match later_reason {
            Some(reason) => self.put_off(message, remaining, !taken.is_empty(), reason),
            None => {
                self.remaining().remove(&message.id);
                match refused.first() {
                    Some((address, error)) if taken.is_empty() => {
                        Verdict::Refused { reason: format!("{}, as for {address}", reason_of(error)) }
                    }
                    _ => Verdict::Delivered,
                }
            }
        }
    }

    /// Some are to get it later. If nobody has it now, that is about the server; if somebody has, about them.
    fn put_off(&self, message: &Message, remaining: Vec<Address>, is_taken: bool, reason: String) -> Verdict {
        self.remaining().insert(message.id.clone(), remaining);
        let queue = self.stragglers.as_ref().filter(|_| is_taken);
        match queue.map(|queue| queue.try_send(message.clone())) {
            Some(Ok(())) => Verdict::Delivered,
            // The server works, and asks to come later.
            Some(Err(_)) | None => Verdict::Retry { reason, after: Some(Duration::ZERO) },
        }
    }

    fn remaining(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Address>>> {
        self.remaining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver for SmtpReceiver {
    fn take<'a>(&'a self, _: Timestamp, message: &'a Message) -> BoxFuture<'a, Verdict> {
        Box::pin(self.send(message))
    }

    fn place(&self) -> &str {
        &self.server.place
    }
}

fn tls(options: &EmailOptions, ca: Option<&[u8]>) -> Result<Tls, String> {
    if options.tls == EmailTls::None {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(options.server.clone());
    if let Some(pem) = ca {
        let certificate = Certificate::from_pem(pem).map_err(|error| format!("ca_file: {error}"))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    let parameters = parameters.build_rustls().map_err(|error| error.to_string())?;
    Ok(if options.tls == EmailTls::Tls { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
}

/// A server that refuses this mail will always; one that refuses us, or can't be reached, may be put right.
fn verdict_of(error: &Error) -> Verdict {
    let reason = reason_of(error);
    if is_for_good(error) { Verdict::Refused { reason } } else { Verdict::Retry { reason, after: None } }
}

/// Whether an answer will be the same next time. 530, 534 and 535 are about our credentials, 538 about the encryption (RFC
/// 4954).
pub(super) fn is_for_good(error: &Error) -> bool {
    let status = error.status().map(u16::from);
    status.is_some_and(|code| (500..=599).contains(&code) && !matches!(code, 530 | 534 | 535 | 538))
}

fn reason_of(error: &Error) -> String {
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    match error.status().map(u16::from) {
        Some(code) => format!("SMTP {code}: {cause}"),
        None => format!("{error}: {cause}"),
    }
}
