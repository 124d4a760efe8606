//! Silences: what people don't want to be told about for a while.
//!
//! One registry for each pipeline, shared by the alert evaluators that obey it and the API that changes it. The registry
//! itself does no I/O: an alert evaluator with a state file keeps it on disk, and loads it at the start.
//!
//! ```text
//!  API ── add, expire ──→ Silences (1,000) ──→ alert evaluators ──→ state file
//! ```
//!
//! An expired silence is kept for five days, so that it can be read who silenced what.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::component::BuildContext;
use crate::matcher::{self, Matcher};
use crate::slot::Timestamp;

/// Most silences that are kept, expired ones included; the oldest expired ones make room. More than people write by hand.
pub const SILENCES_CAPACITY: usize = 1_000;
/// Most matchers of a silence.
pub const MATCHERS_CAPACITY: usize = 32;
/// Most bytes of a comment, a name, or a matcher: a thousand letters of any script, and a label's name.
pub const TEXT_BYTES: usize = 8_192;
/// How long an expired silence is kept, as Alertmanager does.
const RETENTION: Duration = Duration::from_secs(120 * 3_600);

/// A time in which alerts that fit are not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Tells it apart from all others: 32 hexadecimal digits.
    pub id: Arc<str>,
    /// What an alert has to fit, all of it.
    pub matchers: Vec<Matcher>,
    /// When it begins.
    pub starts_at: Timestamp,
    /// When it ends; an expired one ended when it was expired.
    pub ends_at: Timestamp,
    /// Who wants it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// How far a silence has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    /// It has not begun.
    Pending,
    /// It holds.
    Active,
    /// It is over.
    Expired,
}

impl Silence {
    /// How far it has come.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now >= self.ends_at {
            SilenceState::Expired
        } else if now < self.starts_at {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    /// Whether it silences an alert with these labels now; `label` gives the value of a label.
    pub fn silences<'l>(&self, now: Timestamp, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.state(now) == SilenceState::Active && matcher::all_fit(&self.matchers, label)
    }
}

/// What a new silence is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSilence {
    /// What an alert has to fit, all of it: at least one matcher that does not fit everything.
    pub matchers: Vec<Matcher>,
    /// When it begins: now, if that is past.
    pub starts_at: Timestamp,
    /// When it ends, in the future.
    pub ends_at: Timestamp,
    /// Who wants it; not empty.
    pub created_by: String,
    /// Why; not empty.
    pub comment: String,
}

/// Why a silence can't be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SilenceError {
    /// Part of it is not as it has to be.
    #[error("`{field}` can't be used: {reason}")]
    Invalid {
        /// The part.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There are too many.
    #[error("there are {SILENCES_CAPACITY} silences that are not over, expire one of them first")]
    Full,
    /// There is no such silence.
    #[error("there is no silence `{0}`")]
    Unknown(String),
    /// It is over already.
    #[error("silence `{0}` is over already")]
    Expired(String),
}

#[derive(Debug, Default)]
struct Registry {
    /// In the order in which they were made.
    silences: Vec<Silence>,
    revision: u64,
}

/// The silences of a pipeline. Clones are the same registry.
#[derive(Debug, Clone, Default)]
pub struct Silences {
    registry: Arc<Mutex<Registry>>,
}

impl Silences {
    /// The registry of the pipeline that is being built; whoever asks first makes it.
    pub fn shared(context: &mut BuildContext) -> Self {
        context.shared.get_or_insert_with(Self::default).clone()
    }

    /// All silences, the newest first.
    pub fn list(&self) -> Vec<Silence> {
        self.lock().silences.iter().rev().cloned().collect()
    }

    /// One silence.
    pub fn get(&self, id: &str) -> Option<Silence> {
        self.lock().silences.iter().find(|silence| &*silence.id == id).cloned()
    }

    /// Adds a silence.
    ///
    /// # Errors
    /// If part of it can't be used, or there are too many.
    pub fn add(&self, new: NewSilence, now: Timestamp) -> Result<Silence, SilenceError> {
        check(&new, now)?;
        let silence = Silence {
            id: format!("{:032x}", rand::random::<u128>()).into(),
            matchers: new.matchers,
            starts_at: new.starts_at.max(now),
            ends_at: new.ends_at,
            created_by: new.created_by,
            comment: new.comment,
        };
        let mut registry = self.lock();
        registry.make_room(now)?;
        registry.silences.push(silence.clone());
        registry.revision += 1;
        Ok(silence)
    }

    /// Ends a silence now; it stays in the list until it is forgotten.
    ///
    /// # Errors
    /// If there is no such silence, or it is over already.
    pub fn expire(&self, id: &str, now: Timestamp) -> Result<Silence, SilenceError> {
        let mut registry = self.lock();
        let found = registry.silences.iter_mut().find(|silence| &*silence.id == id);
        let silence = found.ok_or_else(|| SilenceError::Unknown(id.to_owned()))?;
        if silence.state(now) == SilenceState::Expired {
            return Err(SilenceError::Expired(id.to_owned()));
        }
        silence.ends_at = now;
        silence.starts_at = silence.starts_at.min(now);
        let expired = silence.clone();
        registry.revision += 1;
        Ok(expired)
    }

    /// The silence that holds for an alert with these labels now, if one does: the one that was made first.
    pub fn silencing<'l>(&self, now: Timestamp, label: impl Fn(&str) -> Option<&'l str>) -> Option<Arc<str>> {
        let registry = self.lock();
        let silencing = registry.silences.iter().find(|silence| silence.silences(now, &label));
        silencing.map(|silence| Arc::clone(&silence.id))
    }

    /// Counts changes: whoever keeps the silences on disk writes them when it has moved.
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Takes in silences that were kept on disk, beside what is there; those that are long over are left out.
    pub fn restore(&self, silences: Vec<Silence>, now: Timestamp) {
        let mut registry = self.lock();
        let mut restored: Vec<_> =
            silences.into_iter().filter(|silence| !is_forgotten(silence, now)).collect();
        restored.retain(|silence| registry.silences.iter().all(|known| known.id != silence.id));
        restored.append(&mut registry.silences);
        let surplus = restored.len().saturating_sub(SILENCES_CAPACITY);
        registry.silences = restored.split_off(surplus);
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn make_room(&mut self, now: Timestamp) -> Result<(), SilenceError> {
        self.silences.retain(|silence| !is_forgotten(silence, now));
        if self.silences.len() < SILENCES_CAPACITY {
            return Ok(());
        }
        let expired = self.silences.iter().position(|silence| silence.state(now) == SilenceState::Expired);
        self.silences.remove(expired.ok_or(SilenceError::Full)?);
        Ok(())
    }
}

fn is_forgotten(silence: &Silence, now: Timestamp) -> bool {
    now >= silence.ends_at.after(RETENTION)
}

fn check(new: &NewSilence, now: Timestamp) -> Result<(), SilenceError> {
    let invalid = |field, reason: &str| Err(SilenceError::Invalid { field, reason: reason.to_owned() });
    let length = new.matchers.len();
    if length == 0 || length > MATCHERS_CAPACITY {
        return invalid("matchers", &format!("{length} matchers, give 1 to {MATCHERS_CAPACITY}"));
    }
    if new.matchers.iter().all(Matcher::fits_empty) {
        return invalid("matchers", "they fit every alert, name at least one label with a value");
    }
    if new.matchers.iter().any(|matcher| matcher.name().len() + matcher.value().len() > TEXT_BYTES) {
        return invalid("matchers", &format!("a matcher is longer than {TEXT_BYTES} bytes"));
    }
    if new.ends_at <= now {
        return invalid("ends_at", "it lies in the past");
    }
    if new.ends_at <= new.starts_at {
        return invalid("ends_at", "it does not lie behind `starts_at`");
    }
    for (field, text) in [("created_by", &new.created_by), ("comment", &new.comment)] {
        if text.trim().is_empty() || text.len() > TEXT_BYTES {
            return invalid(field, &format!("give 1 to {TEXT_BYTES} bytes of text"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn new(matchers: &[&str], starts_at: u64, ends_at: u64) -> NewSilence {
        let matchers = matchers.iter().map(|text| text.parse().expect("a matcher")).collect();
        let (starts_at, ends_at) = (Timestamp(starts_at), Timestamp(ends_at));
        NewSilence { matchers, starts_at, ends_at, created_by: "ann".to_owned(), comment: "move".to_owned() }
    }

    fn silencing(silences: &Silences, now: u64, endpoint: &'static str) -> bool {
        silences.silencing(Timestamp(now), |name| (name == "endpoint").then_some(endpoint)).is_some()
    }

    #[test]
    fn a_silence_holds_from_its_start_until_before_its_end() {
        let silences = Silences::default();
        silences.add(new(&["endpoint=~a.*"], 10, 20), Timestamp(5)).expect("valid");
        let held: Vec<_> = [9, 10, 19, 20].map(|now| silencing(&silences, now, "ams")).into();
        assert_eq!(held, [false, true, true, false]);
        assert!(!silencing(&silences, 10, "us"));
    }

    #[test]
    fn an_expired_silence_is_over_at_once_and_only_once() {
        let silences = Silences::default();
        let silence = silences.add(new(&["endpoint=ams"], 0, 100), Timestamp(5)).expect("valid");
        assert_eq!(silences.revision(), 1);
        silences.expire(&silence.id, Timestamp(7)).expect("active");
        assert!(!silencing(&silences, 7, "ams"));
        assert_eq!(silences.revision(), 2);
        let again = silences.expire(&silence.id, Timestamp(8));
        assert_eq!(again, Err(SilenceError::Expired(silence.id.to_string())));
        assert_eq!(silences.expire("x", Timestamp(8)), Err(SilenceError::Unknown("x".to_owned())));
        assert_eq!(silences.list().len(), 1);
    }

    #[test]
    fn what_can_not_be_used_is_refused_by_field() {
        let refused = |new: NewSilence| match Silences::default().add(new, Timestamp(5)) {
            Err(SilenceError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(new(&[], 0, 10)), "matchers");
        assert_eq!(refused(new(&["a=~.*", "b!=x"], 0, 10)), "matchers");
        assert_eq!(refused(new(&["a=x"], 0, 5)), "ends_at");
        assert_eq!(refused(new(&["a=x"], 20, 20)), "ends_at");
        assert_eq!(refused(NewSilence { comment: " ".to_owned(), ..new(&["a=x"], 0, 10) }), "comment");
        assert_eq!(refused(NewSilence { created_by: String::new(), ..new(&["a=x"], 0, 10) }), "created_by");
    }

    #[test]
    fn the_registry_is_bounded_and_expired_ones_make_room() {
        let silences = Silences::default();
        silences.add(new(&["a=x"], 0, 10), Timestamp(5)).expect("valid");
        for _ in 1..SILENCES_CAPACITY {
            silences.add(new(&["a=x"], 0, 1_000), Timestamp(5)).expect("room");
        }
        assert_eq!(silences.add(new(&["a=x"], 0, 1_000), Timestamp(9)), Err(SilenceError::Full));
        silences.add(new(&["a=x"], 0, 1_000), Timestamp(10)).expect("one has expired");
        assert_eq!(silences.list().len(), SILENCES_CAPACITY);
    }

    #[test]
    fn what_was_kept_comes_back_unless_it_is_long_over() {
        let silences = Silences::default();
        silences.add(new(&["a=x"], 0, 10), Timestamp(5)).expect("valid");
        let text = serde_json::to_string(&silences.list()).expect("JSON");
        let kept = || serde_json::from_str::<Vec<Silence>>(&text).expect("what was written");
        let restored = Silences::default();
        restored.restore(kept(), Timestamp(6));
        restored.restore(kept(), Timestamp(6));
        assert_eq!(restored.list(), silences.list());
        let late = Silences::default();
        late.restore(kept(), Timestamp(10).after(5 * DAY));
        assert_eq!(late.list(), []);
    }
}
