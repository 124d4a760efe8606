//! What to do next with one endpoint: connect, wait, read on, ping, or give the connection up. Pure: time comes in, and
//! the jitter's random numbers come from a seed.
//!
//! ```text
//!             time is up                 subscribed
//!   Waiting ─────────────> Connecting ───────────────> Open ──┐ batches: heard_at, progress_at
//!      ^                       │ failure                │     │
//!      └───────────────────────┴────────────────────────┘<────┘ failure, end, silence, no new slot
//! ```
//!
//! There is no end to the tries. The time between them grows exponentially and is drawn at random from the whole range
//! above the floor, so that clients which lost the same server don't come back together. It starts over only when a
//! session has brought a second new slot: a server that accepts and hangs up at once is not called progress.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::failure::FailureKind;
use crate::slot::{Slot, Timestamp};

/// Longest wait that a server can ask for: a wrong header must not silence an endpoint for a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// New slots that a session has to bring before its endpoint is trusted again. The first is there with the first
/// message of any session; the second shows that the stream flows.
const SLOTS_OF_PROGRESS: u32 = 2;

/// The times of [`super::options::YellowstoneOptions`] that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Shortest time between two tries.
    pub reconnect_min: Duration,
    /// Longest time between two tries.
    pub reconnect_max: Duration,
    /// Longest time without any message.
    pub idle_timeout: Duration,
    /// Longest time without a new slot.
    pub progress_timeout: Duration,
    /// Time between pings.
    pub ping_interval: Duration,
}

/// What to do while there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Wait this long.
    Wait(Duration),
    /// Connect now.
    Connect,
}

/// What to do beside reading while there is a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Nothing before this time has passed.
    Fine(Duration),
    /// Send a ping with this id.
    Ping(i32),
    /// End the session.
    GiveUp(FailureKind),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting { until: Timestamp },
    Connecting,
    Open(Open),
}

#[derive(Debug, Clone, Copy)]
struct Open {
    heard_at: Timestamp,
    progress_at: Timestamp,
    pinged_at: Timestamp,
    tip: Slot,
    new_slots: u32,
}

/// One endpoint's connection over time.
#[derive(Debug)]
pub struct Connection {
    policy: Policy,
    random: SmallRng,
    state: State,
    /// Sessions without progress in a row.
    failures: u32,
    sessions: u32,
    pings: i32,
}

impl Connection {
    /// A connection that is to be made at once.
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            random: SmallRng::seed_from_u64(seed),
            state: State::Waiting { until: Timestamp(0) },
            failures: 0,
            sessions: 0,
            pings: 0,
        }
    }

    /// What to do while there is no session.
    pub fn step(&mut self, now: Timestamp) -> Step {
        match self.state {
            State::Waiting { until } if until > now => Step::Wait(until.since(now)),
            _ => {
                self.state = State::Connecting;
                Step::Connect
            }
        }
    }

    /// A subscription was accepted; returns the new session's number.
    pub fn on_opened(&mut self, now: Timestamp) -> u32 {
        self.state =
            State::Open(Open { heard_at: now, progress_at: now, pinged_at: now, tip: 0, new_slots: 0 });
        self.sessions += 1;
        self.sessions
    }

    /// Another session begins along the same stream; returns its number.
    pub fn on_renewed(&mut self) -> u32 {
        self.sessions += 1;
        self.sessions
    }

    /// The session was ended from here, by no fault of the server's.
    pub fn on_left(&mut self) {
        self.state = State::Waiting { until: Timestamp(0) };
    }

    /// Messages came, of which `highest` is the highest slot (0: none had one).
    pub fn on_messages(&mut self, now: Timestamp, highest: Slot) {
        let State::Open(open) = &mut self.state else { return };
        open.heard_at = now;
        if highest > open.tip {
            open.tip = highest;
            open.progress_at = now;
            open.new_slots += 1;
            if open.new_slots >= SLOTS_OF_PROGRESS {
                self.failures = 0;
            }
        }
    }

    /// Nothing was read for `blocked`, because the pipeline was full: that time is not the server's fault.
    pub fn on_blocked(&mut self, blocked: Duration) {
        let State::Open(open) = &mut self.state else { return };
        open.heard_at = open.heard_at.after(blocked);
        open.progress_at = open.progress_at.after(blocked);
    }

    /// What to do beside reading.
    pub fn watch(&mut self, now: Timestamp) -> Watch {
        let policy = self.policy;
        let State::Open(open) = &mut self.state else { return Watch::Fine(policy.ping_interval) };
        if now.since(open.heard_at) >= policy.idle_timeout {
            return Watch::GiveUp(FailureKind::Idle);
        }
        if now.since(open.progress_at) >= policy.progress_timeout {
            return Watch::GiveUp(FailureKind::Stalled);
        }
        if now.since(open.pinged_at) >= policy.ping_interval {
            return Watch::Ping(self.next_ping(now));
        }
        let idle = policy.idle_timeout.saturating_sub(now.since(open.heard_at));
        let progress = policy.progress_timeout.saturating_sub(now.since(open.progress_at));
        let ping = policy.ping_interval.saturating_sub(now.since(open.pinged_at));
        Watch::Fine(idle.min(progress).min(ping))
    }

    /// The server pinged; returns the id to answer with.
    pub fn on_ping(&mut self, now: Timestamp) -> i32 {
        self.next_ping(now)
    }

    /// The session, or the try to have one, ended; returns how long to wait before the next.
    pub fn on_ended(&mut self, now: Timestamp, kind: FailureKind) -> Duration {
        let wait = self.backoff(kind);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting { until: now.after(wait) };
        wait
    }

    /// Whether there is a session.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The highest slot that this session brought, 0 if none.
    pub fn tip(&self) -> Slot {
        match self.state {
            State::Open(open) => open.tip,
            State::Waiting { .. } | State::Connecting => 0,
        }
    }

    fn next_ping(&mut self, now: Timestamp) -> i32 {
        if let State::Open(open) = &mut self.state {
            open.pinged_at = now;
        }
        self.pings = self.pings.checked_add(1).unwrap_or(1);
        self.pings
    }

    fn backoff(&mut self, kind: FailureKind) -> Duration {
        let Policy { reconnect_min: floor, reconnect_max: ceiling, .. } = self.policy;
        let doubled = floor.saturating_mul(2_u32.saturating_pow(self.failures.saturating_add(1)));
        let (floor, ceiling) = match kind {
            // The answer will be the same until somebody changes something.
            FailureKind::Unauthenticated | FailureKind::Rejected | FailureKind::Unimplemented => {
                ((ceiling / 2).max(floor), ceiling)
            }
            FailureKind::RateLimited { retry_after: Some(asked) } => {
                let asked = asked.min(MAX_RETRY_AFTER).max(floor);
                (asked, asked.saturating_add(floor))
            }
            _ => (floor, doubled.min(ceiling)),
        };
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.random_range(micros(floor)..=micros(ceiling.max(floor))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy {
        reconnect_min: Duration::from_millis(100),
        reconnect_max: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(30),
        progress_timeout: Duration::from_secs(20),
        ping_interval: Duration::from_secs(15),
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).after(Duration::from_secs(seconds))
    }

    fn open() -> Connection {
        let mut connection = Connection::new(POLICY, 1);
        assert_eq!(connection.step(at(0)), Step::Connect);
        assert_eq!(connection.on_opened(at(0)), 1);
        connection
    }

    #[test]
    fn sessions_are_numbered_and_never_reused() {
        let mut connection = open();
        connection.on_ended(at(1), FailureKind::Ended);
        assert_eq!(connection.on_opened(at(2)), 2);
    }

    #[test]
    fn a_session_that_was_left_can_be_had_again_at_once() {
        let mut connection = open();
        assert_eq!(connection.on_renewed(), 2);
        connection.on_left();
        assert!(!connection.is_open());
        assert_eq!(connection.step(at(1)), Step::Connect);
        assert_eq!(connection.on_opened(at(1)), 3);
    }

    #[test]
    fn a_server_that_accepts_and_hangs_up_is_tried_ever_more_slowly() {
        let mut connection = Connection::new(POLICY, 7);
        let mut waits = Vec::new();
        for second in 0..40 {
            connection.on_opened(at(second));
            connection.on_messages(at(second), 5);
            waits.push(connection.on_ended(at(second), FailureKind::Ended));
        }
        assert!(waits[0] <= Duration::from_millis(200));
        assert!(
            waits[20..].iter().sum::<Duration>() > Duration::from_secs(60),
            "twenty waits of 5 s on average"
        );
    }

    #[test]
    fn a_second_new_slot_starts_the_backoff_over() {
        let mut connection = open();
        for _ in 0..10 {
            connection.on_ended(at(0), FailureKind::Unavailable);
        }
        connection.on_opened(at(1));
        connection.on_messages(at(1), 5);
        connection.on_messages(at(1), 6);
        assert!(connection.on_ended(at(2), FailureKind::Unavailable) <= Duration::from_millis(200));
    }

    #[test]
    fn silence_and_a_standing_chain_are_told_apart() {
        let mut connection = open();
        connection.on_messages(at(1), 5);
        assert_eq!(connection.watch(at(15)), Watch::Ping(1));
        for second in 2..21 {
            connection.on_messages(at(second), 5);
        }
        assert_eq!(connection.watch(at(21)), Watch::GiveUp(FailureKind::Stalled));
        let mut silent = open();
        silent.on_messages(at(0), 5);
        assert_eq!(silent.watch(at(30)), Watch::GiveUp(FailureKind::Idle));
    }

    #[test]
    fn time_spent_blocked_is_not_held_against_the_server() {
        let mut connection = open();
        connection.on_messages(at(0), 5);
        connection.on_blocked(Duration::from_secs(100));
        assert!(!matches!(connection.watch(at(105)), Watch::GiveUp(_)));
        assert_eq!(connection.watch(at(131)), Watch::GiveUp(FailureKind::Idle));
    }

    #[test]
    fn an_answered_ping_delays_the_next_one_of_our_own() {
        let mut connection = open();
        connection.on_messages(at(10), 1);
        assert_eq!(connection.on_ping(at(10)), 1);
        assert_eq!(connection.watch(at(16)), Watch::Fine(Duration::from_secs(9)));
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_kept_within_reason() {
        let mut connection = Connection::new(POLICY, 1);
        let limited = |seconds| FailureKind::RateLimited { retry_after: Some(Duration::from_secs(seconds)) };
        assert!(connection.on_ended(at(0), limited(60)) >= Duration::from_secs(60));
        assert!(connection.on_ended(at(0), limited(1_000_000)) < Duration::from_secs(301));
    }

    #[test]
    fn a_wrong_token_is_not_hammered_with() {
        let mut connection = Connection::new(POLICY, 1);
        assert!(connection.on_ended(at(0), FailureKind::Unauthenticated) >= Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_below_the_floor_nor_above_the_ceiling(seed: u64, failures in 0_u32..200) {
            let mut connection = Connection::new(POLICY, seed);
            for _ in 0..failures {
                let wait = connection.on_ended(at(0), FailureKind::Unavailable);
                prop_assert!(wait >= POLICY.reconnect_min && wait <= POLICY.reconnect_max);
                prop_assert_eq!(connection.step(at(0)), Step::Wait(wait));
            }
        }
    }
}
