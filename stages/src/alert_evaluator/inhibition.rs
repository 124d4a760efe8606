//! Inhibition: an alert that explains others keeps them from being told.
//!
//! As in Alertmanager: a target is inhibited while a source fires that has the same values for the labels in `equal`, a
//! missing label counting as an empty one; an alert that fits both sides can't inhibit one that does, itself included.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AlertState};
use crate::matcher::{self, Matcher};

/// One rule of inhibition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InhibitOptions {
    /// Which alerts explain others, e.g. `['rule="no_endpoint"']`.
    pub source: Vec<Matcher>,
    /// Which alerts are not told then, e.g. `['rule="endpoint_down"']`.
    pub target: Vec<Matcher>,
    /// Labels that have to have the same value on both. Default none.
    pub equal: Vec<String>,
}

fn fits(matchers: &[Matcher], alert: &Alert) -> bool {
    matcher::all_fit(matchers, |name| alert.label(name))
}

impl InhibitOptions {
    fn inhibits(&self, source: &Alert, target: &Alert) -> bool {
        let same =
            |name: &String| source.label(name).unwrap_or_default() == target.label(name).unwrap_or_default();
        let two_sided = fits(&self.source, target) && fits(&self.target, source);
        fits(&self.source, source) && !two_sided && self.equal.iter().all(same)
    }
}

/// The fingerprint of the alert that keeps `target` from being told, if one does.
pub(super) fn inhibitor<'a>(
    rules: &[InhibitOptions],
    alerts: impl Iterator<Item = &'a Alert> + Clone,
    target: &Alert,
) -> Option<Arc<str>> {
    let firing = alerts.filter(|alert| alert.state == AlertState::Firing);
    let mut fitting = rules.iter().filter(|rule| fits(&rule.target, target));
    fitting.find_map(|rule| {
        firing
            .clone()
            .find(|source| rule.inhibits(source, target))
            .map(|source| Arc::clone(&source.fingerprint))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Severity;
    use crate::sample::Labels;
    use crate::slot::Timestamp;

    fn alert(rule: &str, endpoint: &str, state: AlertState) -> Alert {
        Alert {
            fingerprint: Arc::from(format!("{rule}{endpoint}")),
            rule: Arc::from(rule),
            severity: Severity::Error,
            state,
            metric: Arc::from("m"),
            labels: Labels::from([(Arc::from("endpoint"), Arc::from(endpoint))]),
            value: 1.0,
            threshold: 0.0,
            message: Arc::from(""),
            active_at: Timestamp(0),
            fired_at: Some(Timestamp(0)),
            resolved_at: None,
            suppressed_by: None,
        }
    }

    fn inhibit(source: &str, target: &str, equal: &[&str]) -> InhibitOptions {
        let matcher = |text: &str| vec![text.parse().expect("a matcher")];
        let equal = equal.iter().map(|name| (*name).to_owned()).collect();
        InhibitOptions { source: matcher(source), target: matcher(target), equal }
    }

    fn inhibited(rule: InhibitOptions, source: &Alert, target: &Alert) -> bool {
        inhibitor(&[rule], [source, target].into_iter(), target).is_some()
    }

    #[test]
    fn only_a_firing_source_with_equal_labels_inhibits() {
        let rule = || inhibit("rule=down", "rule=lag", &["endpoint"]);
        let lag = alert("lag", "ams", AlertState::Firing);
        assert!(inhibited(rule(), &alert("down", "ams", AlertState::Firing), &lag));
        assert!(!inhibited(rule(), &alert("down", "us", AlertState::Firing), &lag));
        assert!(!inhibited(rule(), &alert("down", "ams", AlertState::Pending), &lag));
        assert!(!inhibited(rule(), &alert("hole", "ams", AlertState::Firing), &lag));
    }

    #[test]
    fn a_label_that_both_lack_is_equal() {
        let rule = inhibit("rule=down", "rule=lag", &["region"]);
        let (down, lag) = (alert("down", "a", AlertState::Firing), alert("lag", "b", AlertState::Firing));
        assert!(inhibited(rule, &down, &lag));
    }

    #[test]
    fn alerts_that_fit_both_sides_don_t_inhibit_each_other() {
        let rule = inhibit("severity=error", "severity=error", &[]);
        let (down, lag) = (alert("down", "a", AlertState::Firing), alert("lag", "a", AlertState::Firing));
        assert!(!inhibited(rule, &down, &lag));
    }
}
