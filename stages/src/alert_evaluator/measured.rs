//! Which firing alerts are given out again although their state is the same: those whose value or sentence is another one.
//! Pure.
//!
//! Each at most once a second; the last value of a burst comes with the first sample after that. At most as many are
//! remembered as fire.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::alert::Alert;
use crate::slot::Timestamp;

/// The least time between two of one alert: a second, and samples that are a second apart are so only about.
const INTERVAL: Duration = Duration::from_millis(900);

/// What was given out last of an alert.
#[derive(Debug)]
struct Last {
    at: Timestamp,
    value: f64,
    message: Arc<str>,
}

/// What was given out last of each firing alert, by its fingerprint.
#[derive(Debug, Default)]
pub(super) struct Shown {
    last: BTreeMap<Arc<str>, Last>,
}

impl Shown {
    /// The `firing` alerts that are due; those in `changed` are given out anyway.
    pub(super) fn due<'a>(
        &mut self,
        at: Timestamp,
        firing: impl Iterator<Item = &'a Alert>,
        changed: &[Alert],
    ) -> Vec<Alert> {
        let changed: BTreeSet<&str> = changed.iter().map(|alert| &*alert.fingerprint).collect();
        let (mut before, mut due) = (std::mem::take(&mut self.last), Vec::new());
        for alert in firing {
            let last = before.remove(&alert.fingerprint);
            let is_given = changed.contains(&*alert.fingerprint);
            let kept = last.filter(|last| !is_given && !last.is_outdated(alert, at));
            if kept.is_none() && !is_given {
                due.push(alert.clone());
            }
            self.last.insert(Arc::clone(&alert.fingerprint), kept.unwrap_or_else(|| Last::of(alert, at)));
        }
        due
    }
}

impl Last {
    fn of(alert: &Alert, at: Timestamp) -> Self {
        Self { at, value: alert.value, message: Arc::clone(&alert.message) }
    }

    fn is_outdated(&self, alert: &Alert, at: Timestamp) -> bool {
        // What is no number is the same as itself here.
        let is_same = self.value.total_cmp(&alert.value).is_eq() && self.message == alert.message;
        !is_same && at.since(self.at) >= INTERVAL
    }
}
