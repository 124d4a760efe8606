//! The cluster as the pipeline meets it: first in a storm, then in a calm, on one clock and over one ledger.

use std::sync::Arc;
use std::time::Duration;

use sluice_cluster::{Cluster, Config, Endpoint, Profile, Rpc, Truth};

use super::scenario::Scenario;

pub(super) struct World {
    storm: Cluster,
    calm: Cluster,
    /// When the storm ends; every connection breaks then, for the last time.
    pub(super) calm_at: Duration,
    /// When the last slot is final.
    pub(super) end: Duration,
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let storm = Cluster::new(scenario.make_ledger(), scenario.cluster.clone());
        let faultless = Config { faults: Profile::None, ..scenario.cluster.clone() };
        let calm = Cluster::new(scenario.make_ledger(), faultless);
        let calm_at = scenario.cluster.slot_time * scenario.storm_slots as u32;
        let end = calm.end().unwrap_or_default();
        Self { storm, calm, calm_at, end }
    }

    pub(super) fn is_calm(&self, now: Duration) -> bool {
        now >= self.calm_at
    }

    pub(super) fn endpoint(&self, now: Duration, index: usize) -> &Arc<Endpoint> {
        &self.cluster(now).endpoints()[index]
    }

    pub(super) fn rpc(&self, now: Duration) -> &Rpc {
        self.cluster(now).rpc()
    }

    pub(super) fn truth(&self) -> Truth {
        self.calm.truth()
    }

    fn cluster(&self, now: Duration) -> &Cluster {
        if self.is_calm(now) { &self.calm } else { &self.storm }
    }
}
