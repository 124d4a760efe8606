//! The SMTP server as a receiver: one try, and what its answer means.

use std::error::Error as _;
use std::time::Duration;

use futures::future::BoxFuture;
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use sluice_stages::slot::Timestamp;

use super::{EmailOptions, EmailTls};
use crate::delivery::courier::{Message, Receiver};
use crate::delivery::retry::Verdict;

/// Connections to the server: mails go one after the other.
const CONNECTIONS: u32 = 1;
/// How long a connection is kept without a mail. Servers close theirs after some minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The server.
pub(super) struct SmtpReceiver {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    envelope: Envelope,
    timeout: Duration,
    place: String,
}

impl SmtpReceiver {
    /// The server of `options`, for mails from `from` to `to`; `ca` is a certificate in PEM that is trusted, too.
    ///
    /// # Errors
    /// What is wrong with the certificate or the addresses.
    pub(super) fn try_new(
        options: &EmailOptions,
        from: &Mailbox,
        to: &[Mailbox],
        ca: Option<&[u8]>,
    ) -> Result<Self, String> {
        let recipients = to.iter().map(|mailbox| mailbox.email.clone()).collect();
        let envelope =
            Envelope::new(Some(from.email.clone()), recipients).map_err(|error| error.to_string())?;
        let pool = PoolConfig::new().max_size(CONNECTIONS).idle_timeout(IDLE_TIMEOUT);
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&options.server)
            .port(options.port())
            .tls(tls(options, ca)?)
            .timeout(Some(options.retry.timeout))
            .pool_config(pool);
        if let (Some(username), Some(password)) = (&options.username, &options.password) {
            builder = builder.credentials(Credentials::new(username.clone(), password.expose().to_owned()));
        }
        Ok(Self {
            transport: builder.build(),
            envelope,
            timeout: options.retry.timeout,
            place: format!("{}:{}", options.server, options.port()),
        })
    }

    async fn send(&self, message: &Message) -> Verdict {
        let sent = self.transport.send_raw(&self.envelope, &message.body);
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(Ok(_)) => Verdict::Delivered,
            Ok(Err(error)) => verdict_of(&error),
            Err(_) => Verdict::Retry { reason: format!("no answer within {:?}", self.timeout), after: None },
        }
    }
}

impl Receiver for SmtpReceiver {
    fn take<'a>(&'a self, _: Timestamp, message: &'a Message) -> BoxFuture<'a, Verdict> {
        Box::pin(self.send(message))
    }

    fn place(&self) -> &str {
        &self.place
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
    let status = error.status().map(u16::from);
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let reason = match status {
        Some(code) => format!("SMTP {code}: {cause}"),
        None => format!("{error}: {cause}"),
    };
    match status {
        // 530, 534 and 535 are about our credentials, 538 about the encryption (RFC 4954).
        Some(530 | 534 | 535 | 538) => Verdict::Retry { reason, after: None },
        Some(500..=599) => Verdict::Refused { reason },
        _ => Verdict::Retry { reason, after: None },
    }
}
