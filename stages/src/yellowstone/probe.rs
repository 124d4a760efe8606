//! A look at an endpoint from outside of a pipeline: what it is, how far away, and whether it takes the subscription.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::timeout;

use super::client::{self, Read, Subscription};
use super::failure::{Failure, FailureKind};
use super::options::YellowstoneOptions;
use super::race::Race;
use crate::component::Endpoint;
use crate::frame::Frame;
use crate::node::Clock;
use crate::slot::Slot;

/// Pings whose median is the round trip.
const PINGS: usize = 5;
/// How long the first update may take: slots come every 0.4 s.
const FIRST_UPDATE: Duration = Duration::from_secs(10);
/// The wait between two tries of an endpoint that takes part in a race.
const RETRY: Duration = Duration::from_secs(1);

/// Whether something is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Accepted,
    /// It is not, and this is what the endpoint says.
    Refused(String),
    /// It could not be found out.
    Unknown,
}

/// What was found out about an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probe {
    /// How long a connection took, in milliseconds; `None` if there was none.
    pub connect_ms: Option<f64>,
    /// The median of some pings, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// What it says that it runs.
    pub version: Option<String>,
    /// Its newest whole slot.
    pub slot: Option<Slot>,
    /// How many slots it can replay.
    pub replay_slots: Option<u64>,
    /// Whether it takes the token.
    pub auth: Verdict,
    /// Whether it takes the filters.
    pub filters: Verdict,
    /// From the subscription to the first update, in milliseconds.
    pub first_update_ms: Option<f64>,
    /// What went wrong first.
    pub error: Option<String>,
}

impl Probe {
    fn nothing() -> Self {
        Self {
            connect_ms: None,
            round_trip_ms: None,
            version: None,
            slot: None,
            replay_slots: None,
            auth: Verdict::Unknown,
            filters: Verdict::Unknown,
            first_update_ms: None,
            error: None,
        }
    }

    fn note<T>(&mut self, answer: Result<T, Failure>) -> Option<T> {
        match answer {
            Ok(answer) => {
                if self.auth == Verdict::Unknown {
                    self.auth = Verdict::Accepted;
                }
                Some(answer)
            }
            Err(failure) => {
                match failure.kind {
                    FailureKind::Unauthenticated => self.auth = Verdict::Refused(failure.detail.clone()),
                    // Not every server has every method; all have that of the subscription.
                    FailureKind::Unimplemented => return None,
                    _ => {}
                }
                self.error.get_or_insert(failure.to_string());
                None
            }
        }
    }

    /// Why there is no subscription. Without its method this is another kind of server, or another path of one.
    fn on_refused(&mut self, failure: Failure) {
        match failure.kind {
            FailureKind::Unimplemented => {
                self.error.get_or_insert(format!("not a Yellowstone server ({failure})"));
                return;
            }
            FailureKind::Rejected => self.filters = Verdict::Refused(failure.detail.clone()),
            _ => {}
        }
        self.note::<()>(Err(failure));
    }
}

/// Finds out about `endpoint`.
pub async fn probe(endpoint: &Endpoint) -> Probe {
    let options = &endpoint.options;
    let mut probe = Probe::nothing();
    let began = Instant::now();
    let channel = match endpoint.link.channel(options).await {
        Ok(channel) => channel,
        Err(failure) => {
            probe.error = Some(failure.to_string());
            return probe;
        }
    };
    probe.connect_ms = Some(millis(began.elapsed()));
    let mut round_trips = Vec::new();
    for _ in 0..PINGS {
        endpoint.link.turn().await;
        let began = Instant::now();
        if probe.note(client::ping(channel.clone(), options).await).is_some() {
            round_trips.push(millis(began.elapsed()));
        }
    }
    round_trips.sort_by(f64::total_cmp);
    probe.round_trip_ms = round_trips.get(round_trips.len() / 2).copied();
    probe.version = probe.note(client::version(channel.clone(), options).await);
    probe.slot = probe.note(client::newest_slot(channel.clone(), options).await);
    let first = probe.note(client::first_replayable_slot(channel.clone(), options).await).flatten();
    probe.replay_slots = probe.slot.zip(first).map(|(newest, first)| newest.saturating_sub(first));
    let began = Instant::now();
    let subscribed = client::subscribe(channel, options, None).await;
    match first_update(subscribed, options).await {
        Ok(()) => {
            probe.note(Ok(()));
            probe.filters = Verdict::Accepted;
            probe.first_update_ms = Some(millis(began.elapsed()));
        }
        Err(failure) => probe.on_refused(failure),
    }
    probe
}

async fn first_update(
    subscribed: Result<Subscription, Failure>,
    options: &YellowstoneOptions,
) -> Result<(), Failure> {
    let mut subscription = subscribed?;
    let mut raw = Vec::new();
    match timeout(FIRST_UPDATE, subscription.read(&mut raw)).await {
        Err(_) => Err(Failure::of(FailureKind::Idle)),
        Ok(Err(status)) => Err(client::failure(&status, options)),
        Ok(Ok(Read::Over(failure))) if raw.is_empty() => Err(failure),
        Ok(Ok(_)) => Ok(()),
    }
}

/// Lets `endpoint` take part in a race, for as long as it is polled; what it delivers is told to `race` under `racer`.
/// Returns never, but tries again when its stream ends.
pub async fn compete(endpoint: &Endpoint, racer: usize, clock: Clock, race: &Mutex<Race>) {
    loop {
        if let Err(failure) = run(endpoint, racer, clock, race).await {
            endpoint.link.on_failure(failure.kind);
            tracing::warn!(endpoint = %endpoint.name, %failure, "left the race");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn run(endpoint: &Endpoint, racer: usize, clock: Clock, race: &Mutex<Race>) -> Result<(), Failure> {
    let options = &endpoint.options;
    let channel = endpoint.link.channel(options).await?;
    let mut subscription = client::subscribe(channel, options, None).await?;
    let (mut raw, mut pings) = (Vec::new(), 0);
    loop {
        let read = timeout(options.idle_timeout, subscription.read(&mut raw)).await;
        let now = clock.now();
        let mut pinged = false;
        {
            let mut race = race.lock().unwrap_or_else(PoisonError::into_inner);
            for frame in raw.drain(..).filter_map(|bytes| Frame::try_new(bytes).ok()) {
                pinged |= frame.header.kind == crate::frame::Kind::Ping;
                race.on_update(now, racer, &frame);
            }
        }
        match read {
            Err(_) => return Err(Failure::of(FailureKind::Idle)),
            Ok(Err(status)) => return Err(client::failure(&status, options)),
            Ok(Ok(Read::Over(failure))) => return Err(failure),
            Ok(Ok(Read::More)) => {}
        }
        if pinged {
            pings += 1;
            subscription.ping(pings);
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use sluice_config::secret::Secret;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::service::Routes;
    use tonic::transport::Server;

    use super::*;
    use crate::component::BuildContext;

    #[tokio::test]
    async fn a_server_of_another_kind_is_told_and_has_accepted_no_token() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        // It has no method at all, as a server behind a wrong path.
        let serving = Server::builder().add_routes(Routes::default());
        drop(tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener))));
        let options = YellowstoneOptions {
            x_token: Some(Secret::new("wrong")),
            ..YellowstoneOptions::new(format!("http://{address}"))
        };
        let mut context = BuildContext::new();
        context.register("other".into(), options).expect("a new name");
        let found = probe(&context.endpoints[0]).await;
        assert_eq!((&found.auth, &found.filters), (&Verdict::Unknown, &Verdict::Unknown), "{found:?}");
        let error = found.error.expect("it can't be subscribed to");
        assert!(error.starts_with("not a Yellowstone server (unimplemented"), "{error}");
    }

    #[test]
    fn only_an_answer_says_that_the_token_is_good() {
        let mut probe = Probe::nothing();
        assert_eq!(probe.note::<()>(Err(Failure::of(FailureKind::Unimplemented))), None);
        assert_eq!((&probe.auth, &probe.error), (&Verdict::Unknown, &None));
        assert_eq!(probe.note(Ok(5)), Some(5));
        assert_eq!(probe.auth, Verdict::Accepted);
        probe.on_refused(Failure::of(FailureKind::Idle));
        assert_eq!(probe.error.as_deref(), Some("idle"));
    }
}
