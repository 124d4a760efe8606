//! Who delivers first: the standings of endpoints that send the same updates. Pure: time comes in.
//!
//! An update is told from others by kind, slot and position; an account's writes within a slot are counted, since their
//! versions differ from server to server. A slot is judged once the tip is `SETTLED_SLOTS` further: what an endpoint has
//! not sent by then it has missed.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::frame::{Frame, Kind};
use crate::slot::{Slot, Timestamp};
use crate::tip::Tip;

/// Slots behind the tip that are still open: more than any endpoint of use is behind.
const SETTLED_SLOTS: u64 = 32;
/// How long all endpoints are waited for before those that are there begin.
const START_GRACE: Duration = Duration::from_secs(5);
/// Most updates of one slot that are told apart: a full mainnet slot has a tenth of it.
const MAX_UPDATES: usize = 1 << 18;
/// The longest delay that is told apart: an hour.
const MAX_MICROS: u64 = 3_600_000_000;
/// Two digits: within one percent.
const DIGITS: u8 = 2;
/// One bit for each endpoint.
pub const MAX_RACERS: usize = 64;

#[derive(Debug)]
struct First {
    kind: Kind,
    at: Timestamp,
    seen: u64,
}

#[derive(Debug, Default)]
struct OpenSlot {
    firsts: HashMap<u64, First, FixedState>,
    /// Writes of an account so far, by endpoint and key.
    writes: HashMap<(usize, u64), u32, FixedState>,
}

#[derive(Debug)]
struct Score {
    updates: u64,
    wins: u64,
    missed: u64,
    behind: Histogram<u32>,
}

impl Default for Score {
    fn default() -> Self {
        let behind = Histogram::new_with_max(MAX_MICROS, DIGITS).expect("the bounds are valid");
        Self { updates: 0, wins: 0, missed: 0, behind }
    }
}

/// How one endpoint did with one kind of update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The endpoint's place.
    #[serde(skip)]
    pub racer: usize,
    /// The kind of update.
    pub kind: &'static str,
    /// Updates that it delivered.
    pub updates: u64,
    /// Those that nobody had delivered before.
    pub wins: u64,
    /// Their share of all updates of the kind.
    pub win_share: f64,
    /// Updates that others delivered and it did not.
    pub missed: u64,
    /// Half of its updates came no more than this behind the first, in milliseconds.
    pub behind_p50_ms: f64,
    /// Nine in ten.
    pub behind_p90_ms: f64,
    /// Ninety-nine in a hundred.
    pub behind_p99_ms: f64,
}

/// A race that is being run.
#[derive(Debug)]
pub struct Race {
    racers: usize,
    started: Timestamp,
    /// The newest slot of each when nobody is judged yet.
    shown: Vec<Slot>,
    /// The first slot that is judged.
    from: Option<Slot>,
    tip: Tip,
    slots: BTreeMap<Slot, OpenSlot>,
    scores: BTreeMap<(Kind, usize), Score>,
    hasher: FixedState,
}

impl Race {
    /// A race of `racers` endpoints, at most [`MAX_RACERS`]; the others are not looked at.
    pub fn new(racers: usize, now: Timestamp) -> Self {
        let racers = racers.min(MAX_RACERS);
        Self {
            racers,
            started: now,
            shown: vec![0; racers],
            from: None,
            tip: Tip::default(),
            slots: BTreeMap::new(),
            scores: BTreeMap::new(),
            hasher: FixedState::default(),
        }
    }

    /// `racer` delivered an update.
    pub fn on_update(&mut self, now: Timestamp, racer: usize, frame: &Frame) {
        let header = &frame.header;
        if racer >= self.racers || header.slot == 0 || header.kind.is_keepalive() {
            return;
        }
        let believed = self.tip.observe(header.slot);
        if !believed || !self.is_judged(now, racer, header.slot) {
            return;
        }
        let id = self.identify(racer, frame);
        let Some(open) = self.slots.get_mut(&header.slot) else { return };
        if open.firsts.len() >= MAX_UPDATES && !open.firsts.contains_key(&id) {
            return;
        }
        let fresh = !open.firsts.contains_key(&id);
        let first = open.firsts.entry(id).or_insert(First { kind: header.kind, at: now, seen: 0 });
        if first.seen & (1 << racer) == 0 {
            first.seen |= 1 << racer;
            let late = u64::try_from(now.since(first.at).as_micros()).unwrap_or(u64::MAX);
            let score = self.scores.entry((header.kind, racer)).or_default();
            score.updates += 1;
            score.wins += u64::from(fresh);
            score.behind.saturating_record(late);
        }
        self.settle(SETTLED_SLOTS);
    }

    /// The standings, by kind; within a kind the winner first. Slots that are still open count no misses.
    pub fn standings(&self) -> Vec<Standing> {
        let mut standings: Vec<Standing> =
            self.scores.iter().map(|(&(kind, racer), score)| self.standing(kind, racer, score)).collect();
        standings.sort_by(|one, other| {
            let wins = other.wins.cmp(&one.wins);
            one.kind.cmp(other.kind).then(wins).then(one.racer.cmp(&other.racer))
        });
        standings
    }

    fn standing(&self, kind: Kind, racer: usize, score: &Score) -> Standing {
        let all: u64 = self.scores.range((kind, 0)..=(kind, usize::MAX)).map(|(_, score)| score.wins).sum();
        let millis = |quantile: f64| score.behind.value_at_quantile(quantile) as f64 / 1_000.0;
        Standing {
            racer,
            kind: kind.name(),
            updates: score.updates,
            wins: score.wins,
            win_share: score.wins as f64 / all.max(1) as f64,
            missed: score.missed,
            behind_p50_ms: millis(0.5),
            behind_p90_ms: millis(0.9),
            behind_p99_ms: millis(0.99),
        }
    }

    /// Whether a slot counts: judging begins behind what anybody had shown when all were there.
    fn is_judged(&mut self, now: Timestamp, racer: usize, slot: Slot) -> bool {
        if self.from.is_none() {
            self.shown[racer] = self.shown[racer].max(slot);
            let all = self.shown.iter().all(|&shown| shown > 0);
            if all || now.since(self.started) >= START_GRACE {
                // The slot after this one may have begun on some of them.
                self.from = self.shown.iter().max().map(|&shown| shown + 2);
            }
            return false;
        }
        let open = self.from.is_some_and(|from| slot >= from) && slot + SETTLED_SLOTS >= self.tip.slot();
        if open {
            self.slots.entry(slot).or_default();
        }
        open
    }

    fn identify(&mut self, racer: usize, frame: &Frame) -> u64 {
        let header = &frame.header;
        let kind = header.kind as u8;
        if header.kind != Kind::Account {
            let status = header.status().map(|status| status as u8);
            return self.hasher.hash_one((kind, header.index, status));
        }
        let key = self.hasher.hash_one(header.key.slice(frame.bytes()));
        let open = self.slots.entry(header.slot).or_default();
        let count = open.writes.entry((racer, key)).or_default();
        *count += 1;
        self.hasher.hash_one((kind, key, *count))
    }

    fn settle(&mut self, slots: u64) {
        let below = self.tip.slot().saturating_sub(slots);
        while let Some(first) = self.slots.first_entry().filter(|first| *first.key() < below) {
            for update in first.remove().firsts.into_values() {
                for racer in (0..self.racers).filter(|racer| update.seen & (1 << racer) == 0) {
                    self.scores.entry((update.kind, racer)).or_default().missed += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use yellowstone_grpc_proto::geyser::subscribe_update::UpdateOneof;
    use yellowstone_grpc_proto::geyser::{SubscribeUpdate, SubscribeUpdateEntry, SubscribeUpdateSlot};

    use super::*;

    fn frame(update: UpdateOneof) -> Frame {
        let update = SubscribeUpdate { update_oneof: Some(update), ..SubscribeUpdate::default() };
        Frame::try_new(update.encode_to_vec().into()).expect("well-formed")
    }

    fn slot(slot: Slot) -> Frame {
        frame(UpdateOneof::Slot(SubscribeUpdateSlot { slot, ..SubscribeUpdateSlot::default() }))
    }

    fn entry(slot: Slot, index: u64) -> Frame {
        let entry =
            SubscribeUpdateEntry { slot, index, hash: vec![7; 32], ..SubscribeUpdateEntry::default() };
        frame(UpdateOneof::Entry(entry))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp(0).after(Duration::from_millis(millis))
    }

    fn started() -> Race {
        let mut race = Race::new(2, at(0));
        race.on_update(at(1), 0, &slot(100));
        race.on_update(at(2), 1, &slot(100));
        race
    }

    fn standing(race: &Race, kind: Kind, racer: usize) -> Standing {
        let found = race.standings().into_iter();
        found.into_iter().find(|one| one.kind == kind.name() && one.racer == racer).expect("it took part")
    }

    #[test]
    fn the_first_wins_and_the_other_is_that_much_behind() {
        let mut race = started();
        for index in 0..100 {
            let (first, second) = if index < 75 { (0, 1) } else { (1, 0) };
            race.on_update(at(1_000 + index), first, &entry(102, index));
            race.on_update(at(1_020 + index), second, &entry(102, index));
        }
        let (near, far) = (standing(&race, Kind::Entry, 0), standing(&race, Kind::Entry, 1));
        assert_eq!((near.wins, far.wins, near.win_share), (75, 25, 0.75));
        assert_eq!((near.behind_p50_ms, far.behind_p50_ms.round()), (0.0, 20.0));
        assert_eq!(race.standings()[0].racer, 0, "the winner is first");
    }

    #[test]
    fn nothing_counts_before_all_are_there() {
        let mut race = Race::new(2, at(0));
        race.on_update(at(1), 0, &slot(100));
        race.on_update(at(2), 0, &entry(101, 0));
        race.on_update(at(3), 1, &slot(101));
        race.on_update(at(4), 0, &entry(102, 0));
        assert!(race.standings().is_empty());
        race.on_update(at(5), 0, &entry(103, 0));
        assert_eq!(standing(&race, Kind::Entry, 0).updates, 1);
    }

    #[test]
    fn who_never_comes_is_not_waited_for_for_ever() {
        let mut race = Race::new(2, at(0));
        race.on_update(at(5_001), 0, &slot(100));
        race.on_update(at(5_002), 0, &entry(102, 0));
        assert_eq!(standing(&race, Kind::Entry, 0).wins, 1);
    }

    #[test]
    fn repeats_count_once_and_what_never_came_is_missed() {
        let mut race = started();
        for _ in 0..3 {
            race.on_update(at(1_000), 0, &entry(102, 0));
        }
        race.on_update(at(1_001), 0, &entry(102, 1));
        race.on_update(at(1_002), 1, &entry(102, 1));
        race.on_update(at(20_000), 0, &slot(102 + SETTLED_SLOTS + 1));
        assert_eq!(standing(&race, Kind::Entry, 0).updates, 2);
        assert_eq!(standing(&race, Kind::Entry, 1).missed, 1);
    }

    #[test]
    fn a_slot_from_nowhere_settles_nothing() {
        let mut race = started();
        race.on_update(at(1_000), 0, &entry(102, 0));
        race.on_update(at(1_001), 1, &slot(u64::MAX - 5));
        race.on_update(at(1_002), 1, &entry(102, 0));
        assert_eq!(standing(&race, Kind::Entry, 1).updates, 1);
    }
}
