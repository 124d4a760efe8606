//! One POST: headers, signature, and what the answer means.

use std::error::Error as _;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::redirect;
use sluice_config::Secret;
use sluice_stages::component::{BuildContext, BuildError};
use sluice_stages::slot::Timestamp;
use url::Url;

use crate::delivery::courier::{Message, Receiver};
use crate::delivery::retry::Verdict;
use crate::delivery::signing::Signer;
use crate::delivery::time_text;

/// How long a connection may take to come about; part of a try's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections that are kept to one receiver: its two lanes use one each.
const IDLE_CONNECTIONS: usize = 4;
/// What is read of an answer so that its connection can be used again. Nothing in it is looked at.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The connections that all webhooks of a pipeline share.
#[derive(Clone)]
struct SharedClient(reqwest::Client);

/// The client of this pipeline; made by whoever asks first.
///
/// # Errors
/// If the system's TLS can't be set up.
pub(super) fn client(context: &mut BuildContext) -> Result<reqwest::Client, BuildError> {
    if let Some(SharedClient(client)) = context.shared.get::<SharedClient>() {
        return Ok(client.clone());
    }
    // Only the first of a process is taken; they are all the same.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder()
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
        // A redirect may lead a signed body, and headers with secrets, to somebody else.
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build()
        .map_err(|error| BuildError::Other(format!("no HTTP client: {error}")))?;
    context.shared.insert(SharedClient(client.clone()));
    Ok(client)
}

/// Headers of one's own.
///
/// # Errors
/// The name of the header that is none.
pub(super) fn headers<'a>(
    own: impl IntoIterator<Item = (&'a String, &'a Secret)>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in own {
        let header = HeaderName::try_from(name.as_str()).map_err(|_| name.clone())?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| name.clone())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

/// A receiver of webhooks.
pub(super) struct HttpReceiver {
    pub(super) client: reqwest::Client,
    pub(super) url: Url,
    /// Its scheme, host and port: what the log may say.
    pub(super) place: String,
    pub(super) headers: HeaderMap,
    pub(super) signer: Signer,
    pub(super) timeout: Duration,
}

impl HttpReceiver {
    async fn post(&self, now: Timestamp, message: &Message) -> Verdict {
        let timestamp_seconds = now.0 / 1_000_000;
        let mut request = self
            .client
            .post(self.url.clone())
            .timeout(self.timeout)
            .header(header::CONTENT_TYPE, &message.content_type)
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp_seconds);
        if let Some(signature) = self.signer.sign(&message.id, timestamp_seconds, &message.body) {
            request = request.header("webhook-signature", signature);
        }
        // Last, so that one's own headers win.
        let answer = request.headers(self.headers.clone()).body(message.body.clone()).send().await;
        match answer {
            Ok(answer) => self.judge(now, answer).await,
            Err(error) => Verdict::Retry { reason: self.describe(&error), after: None },
        }
    }

    async fn judge(&self, now: Timestamp, mut answer: reqwest::Response) -> Verdict {
        let header = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = header.and_then(|text| time_text::retry_after(text, now));
        let verdict = Verdict::of_status(answer.status(), after);
        let mut read = 0;
        while let Ok(Some(chunk)) = answer.chunk().await
            && read < MAX_ANSWER_BYTES
        {
            read += chunk.len();
        }
        verdict
    }

    /// reqwest's errors name the url, which may hold a secret.
    fn describe(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {:?}", self.timeout);
        }
        let mut cause = error.source();
        let mut innermost = None;
        while let Some(error) = cause {
            innermost = Some(error.to_string());
            cause = error.source();
        }
        let what = if error.is_connect() { "can't connect" } else { "the connection failed" };
        match innermost {
            Some(cause) => format!("{what}: {cause}"),
            None => what.to_owned(),
        }
    }
}

impl Receiver for HttpReceiver {
    fn take<'a>(&'a self, now: Timestamp, message: &'a Message) -> BoxFuture<'a, Verdict> {
        Box::pin(self.post(now, message))
    }

    fn place(&self) -> &str {
        &self.place
    }
}
