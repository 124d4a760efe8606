//! What to encode, commit, give up and ask for next. Pure: blocks go in, [`Step`]s come out.
//!
//! Each range is proven by parent links alone, so ranges commit in any order and none needs a neighbour's files:
//!
//! ```text
//!        range 432..=863                                 next range
//!  430 ◄─┼─ 433 ◄── 434 ◄─ … ◄── 861 ◄──────────────────┼── 866
//!        │ the first block's parent                      │ a block beyond the end names the
//!        │ lies before the range: 432 is skipped         │ last one: 862 and 863 are skipped
//! ```
//!
//! A block is encoded when its parent was, so a range holds its columns' encoded bytes and not the frames; what arrives
//! ahead of a hole waits as frames, within `max_waiting_bytes`. Beyond that the youngest range that waits is given up:
//! its frames go, its links stay, and its slots are asked for again once no older range waits. Entries and accounts go
//! on tracks of their own, which may wait longer than the content does, but not for ever.

mod letting_go;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use sluice_stages::batch::Update;
use sluice_stages::block::{Block, Part};
use sluice_stages::frame::BlockMeta;
use sluice_stages::slot::{Hash, Slot, Timestamp};
use sluice_stages::stage::Event;

use super::dataset::Track;
use super::range::CommitRange;

/// Slots asked for at once: what was given up is fetched as it is encoded, not all at the same time.
const REQUEST_SLOTS: usize = 64;
/// How long an accepted request is given before it is made again.
const REQUEST_INTERVAL: Duration = Duration::from_secs(10);

/// Slots without a block: those strictly between a block and its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skip {
    /// The parent.
    pub(crate) parent: Slot,
    /// The block that names it.
    pub(crate) child: Slot,
}

impl Skip {
    /// The skipped slots that lie in `range`.
    pub(crate) fn slots_in(self, range: CommitRange) -> RangeInclusive<Slot> {
        (self.parent + 1).max(range.first)..=self.child.saturating_sub(1).min(range.last)
    }
}

/// What of a slot goes into files.
#[derive(Debug, Clone)]
pub(crate) enum Load {
    /// Meta and transactions.
    Content(Box<Content>),
    /// Entries by index.
    Entries(Slot, Arc<[Update]>),
    /// Accounts by key.
    Accounts(Slot, Arc<[Update]>),
}

/// A block without its extras, so that waiting for one track does not hold the memory of another.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// Hashes, parent and count.
    pub(crate) meta: BlockMeta,
    /// Rewards, time and height.
    pub(crate) meta_update: Update,
    /// The transactions; `None` if nobody subscribed to them.
    pub(crate) transactions: Option<Arc<[Update]>>,
}

impl Load {
    fn of(block: &Block, track: Track) -> Option<Self> {
        let slot = block.slot();
        Some(match (track, &block.transactions, &block.entries, &block.accounts) {
            (Track::Entries, _, Part::Whole(entries), _) => Self::Entries(slot, Arc::clone(entries)),
            (Track::Accounts, _, _, Part::Whole(accounts)) => Self::Accounts(slot, Arc::clone(accounts)),
            (Track::Content, Part::Whole(all), _, _) => Self::content(block, Some(Arc::clone(all))),
            (Track::Content, Part::NotSubscribed, _, _) => Self::content(block, None),
            _ => return None,
        })
    }

    fn content(block: &Block, transactions: Option<Arc<[Update]>>) -> Self {
        let meta_update = block.meta_update.clone();
        Self::Content(Box::new(Content { meta: block.meta, meta_update, transactions }))
    }

    /// The slot.
    pub(crate) fn slot(&self) -> Slot {
        match self {
            Self::Content(content) => content.meta.slot,
            Self::Entries(slot, _) | Self::Accounts(slot, _) => *slot,
        }
    }

    /// Bytes of the frames that it holds.
    pub(crate) fn size_bytes(&self) -> usize {
        let sum = |updates: &[Update]| updates.iter().map(Update::size_bytes).sum::<usize>();
        match self {
            Self::Content(content) => {
                content.meta_update.size_bytes() + content.transactions.as_deref().map_or(0, sum)
            }
            Self::Entries(_, updates) | Self::Accounts(_, updates) => sum(updates),
        }
    }
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Append the rows of a slot to the files of a track; slots of one range come in order.
    Encode(CommitRange, Track, Load),
    /// The files of a track are complete: publish them. `Skip`s for the content.
    Commit(CommitRange, Track, Vec<Skip>),
    /// Throw away what was encoded of a track.
    Forget(CommitRange, Track),
    /// Tell the operator.
    Report(Event),
}

/// Bounds and where to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannerConfig {
    /// Slots of a range.
    pub(crate) commit_slots: u64,
    /// Most bytes of frames that wait behind holes.
    pub(crate) max_waiting_bytes: usize,
    /// Slots before this one are not wanted; `None` if any are.
    pub(crate) floor: Option<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    parent: Slot,
    blockhash: Hash,
    parent_blockhash: Hash,
}

#[derive(Debug, Default)]
struct OpenTrack {
    /// The last slot that was encoded.
    tail: Option<Slot>,
    waiting: BTreeMap<Slot, Load>,
}

#[derive(Debug)]
enum TrackState {
    Open(OpenTrack),
    /// Committed, or never to be.
    Closed,
}

#[derive(Debug)]
struct OpenRange {
    range: CommitRange,
    tracks: [TrackState; 3],
    /// Its blocks are not kept for now.
    given_up: bool,
    /// Slots whose blocks were here and were not kept.
    dropped: BTreeSet<Slot>,
}

impl OpenRange {
    fn new(range: CommitRange) -> Self {
        let open = || TrackState::Open(OpenTrack::default());
        Self { range, tracks: [open(), open(), open()], given_up: false, dropped: BTreeSet::new() }
    }

    fn track(&mut self, track: Track) -> Option<&mut OpenTrack> {
        match &mut self.tracks[track as usize] {
            TrackState::Open(open) => Some(open),
            TrackState::Closed => None,
        }
    }

    fn waits(&self, track: Track) -> bool {
        matches!(&self.tracks[track as usize], TrackState::Open(open) if !open.waiting.is_empty())
    }

    fn is_open(&self, track: Track) -> bool {
        matches!(self.tracks[track as usize], TrackState::Open(_))
    }

    fn is_closed(&self) -> bool {
        self.tracks.iter().all(|track| matches!(track, TrackState::Closed))
    }
}

enum Successor {
    Block(Slot),
    Beyond,
    Unknown,
}

/// Decides what becomes of each block.
#[derive(Debug)]
pub(crate) struct Planner {
    config: PlannerConfig,
    links: BTreeMap<Slot, Link>,
    ranges: BTreeMap<Slot, OpenRange>,
    /// First slots of ranges whose content is committed.
    committed: BTreeSet<Slot>,
    waiting_bytes: usize,
    asked_at: Option<Timestamp>,
    /// Ranges of entries, and of accounts, that will never be there.
    holes: [u64; 2],
}

impl Planner {
    /// A planner for a folder in which the content of the ranges that begin with `committed` is there.
    pub(crate) fn new(config: PlannerConfig, committed: BTreeSet<Slot>) -> Self {
        let (links, ranges) = (BTreeMap::new(), BTreeMap::new());
        Self { config, links, ranges, committed, waiting_bytes: 0, asked_at: None, holes: [0; 2] }
    }

    /// Learns which slots are wanted, if that was open.
    pub(crate) fn begin(&mut self, floor: Slot) {
        self.config.floor.get_or_insert(floor);
    }

    /// Bytes of frames that wait behind holes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Ranges that are not complete yet.
    pub(crate) fn open_ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Ranges of entries, and of accounts, that did not come whole: holes of those datasets.
    pub(crate) fn holes(&self) -> [u64; 2] {
        self.holes
    }

    /// Takes a block, which may be here for the second time, and says what to do.
    pub(crate) fn accept(&mut self, block: &Block, steps: &mut Vec<Step>) {
        let slot = block.slot();
        if self.config.floor.is_some_and(|floor| slot < floor) {
            return;
        }
        let meta = &block.meta;
        let link = Link {
            parent: meta.parent_slot,
            blockhash: meta.blockhash,
            parent_blockhash: meta.parent_blockhash,
        };
        if let Some(reason) = self.contradiction(slot, link) {
            steps.push(Step::Report(Event::Contradiction { slot, reason, endpoints: Vec::new() }));
            return;
        }
        let range = self.range_of(slot);
        let wanted = self.ranges.contains_key(&range.first) || !self.committed.contains(&range.first);
        // Of a range that is committed only the ends matter, as proof for its neighbours.
        if wanted || link.parent < range.first {
            self.links.insert(slot, link);
        }
        if wanted {
            self.offer(range, block, steps);
        }
        self.bridge(slot, steps);
        self.enforce_bound(steps);
    }

    /// Slots to ask for again, oldest first, if it is time to.
    pub(crate) fn requests(&mut self, now: Timestamp) -> Vec<Slot> {
        if self.asked_at.is_some_and(|at| now.since(at) < REQUEST_INTERVAL) {
            return Vec::new();
        }
        self.wanted()
    }

    /// Notes that the request made at `now` was accepted.
    pub(crate) fn on_requested(&mut self, now: Timestamp) {
        self.asked_at = Some(now);
    }

    fn wanted(&mut self) -> Vec<Slot> {
        let stuck = self.ranges.values_mut().find(|open| {
            open.is_open(Track::Content) && {
                !open.dropped.is_empty() || open.waits(Track::Content) || open.given_up
            }
        });
        let Some(open) = stuck else { return Vec::new() };
        // Nothing older waits any more, so there is memory for this one.
        open.given_up = false;
        let (range, tail) = (open.range, open.track(Track::Content).and_then(|track| track.tail));
        let next = self.successor(range, tail);
        let Some(open) = self.ranges.get(&range.first) else { return Vec::new() };
        match next {
            Successor::Block(slot) if open.dropped.contains(&slot) => {
                open.dropped.range(slot..).take(REQUEST_SLOTS).copied().collect()
            }
            _ => Vec::new(),
        }
    }

    fn range_of(&self, slot: Slot) -> CommitRange {
        CommitRange::containing(slot, self.config.commit_slots)
    }

    /// What this link says against those that are there.
    fn contradiction(&self, slot: Slot, link: Link) -> Option<&'static str> {
        if let Some(known) = self.links.get(&slot) {
            return (*known != link).then_some("a second block for a slot that has a final one");
        }
        if link.parent >= slot && slot != 0 {
            return Some("its parent is not before it");
        }
        let before = self.links.range(..slot).next_back();
        let after = self.links.range(slot + 1..).next();
        match before {
            Some((&before, _)) if before > link.parent => {
                return Some("its parent lies before another final block");
            }
            Some((&before, known)) if before == link.parent && known.blockhash != link.parent_blockhash => {
                return Some("its parent has another blockhash");
            }
            _ => {}
        }
        match after {
            Some((_, known)) if known.parent < slot => Some("a later final block skips it"),
            Some((_, known)) if known.parent == slot && known.parent_blockhash != link.blockhash => {
                Some("a later final block names another blockhash")
            }
            _ => None,
        }
    }

    fn offer(&mut self, range: CommitRange, block: &Block, steps: &mut Vec<Step>) {
        let open = self.ranges.entry(range.first).or_insert_with(|| OpenRange::new(range));
        let slot = block.slot();
        for (track, part) in [(Track::Entries, &block.entries), (Track::Accounts, &block.accounts)] {
            if matches!(part, Part::NotSubscribed) && open.is_open(track) {
                let freed = close(open, track);
                self.waiting_bytes -= freed;
                steps.push(Step::Forget(range, track));
            }
        }
        if open.given_up {
            open.dropped.insert(slot);
            return;
        }
        open.dropped.remove(&slot);
        for track in Track::ALL {
            let Some(load) = Load::of(block, track) else { continue };
            let Some(state) = open.track(track) else { continue };
            if state.tail.is_none_or(|tail| slot > tail) && !state.waiting.contains_key(&slot) {
                self.waiting_bytes += load.size_bytes();
                state.waiting.insert(slot, load);
            }
        }
    }

    /// Goes on with every range that the block in `slot` may be the missing link of.
    fn bridge(&mut self, slot: Slot, steps: &mut Vec<Step>) {
        let Some(&link) = self.links.get(&slot) else { return };
        self.open_skipped(link.parent, slot);
        let child = self.links.range(slot + 1..).next().map(|(&child, link)| (child, link.parent));
        if let Some((child, parent)) = child
            && parent == slot
        {
            self.open_skipped(slot, child);
        }
        let first = self.range_of(link.parent.min(slot)).first;
        let last = self.range_of(child.map_or(slot, |(child, _)| child)).first;
        let touched: Vec<Slot> = self.ranges.range(first..=last).map(|(&first, _)| first).collect();
        for first in touched {
            self.advance(first, steps);
        }
    }

    /// Opens the ranges that lie wholly between a block and its parent, so that they are committed, too.
    fn open_skipped(&mut self, parent: Slot, child: Slot) {
        let end = self.range_of(child).first;
        let mut range = self.range_of(parent).next();
        // Without the parent at hand nobody asked for what lies between, unless the floor says so.
        let from = if self.links.contains_key(&parent) { 0 } else { self.config.floor.unwrap_or(Slot::MAX) };
        if from > range.first {
            range = self.range_of(from.min(end));
        }
        while range.first < end {
            if !self.committed.contains(&range.first) {
                self.ranges.entry(range.first).or_insert_with(|| OpenRange::new(range));
            }
            range = range.next();
        }
    }

    fn advance(&mut self, first: Slot, steps: &mut Vec<Step>) {
        for track in Track::ALL {
            self.advance_track(first, track, steps);
        }
        if self.ranges.get(&first).is_some_and(OpenRange::is_closed) {
            self.close_range(first);
        }
    }

    fn advance_track(&mut self, first: Slot, track: Track, steps: &mut Vec<Step>) {
        loop {
            let Some(open) = self.ranges.get_mut(&first) else { return };
            let range = open.range;
            let Some(tail) = open.track(track).map(|track| track.tail) else { return };
            match self.successor(range, tail) {
                Successor::Unknown => return,
                Successor::Beyond => return self.complete(range, track, steps),
                Successor::Block(slot) => {
                    let open = self.ranges.get_mut(&first).and_then(|open| open.track(track));
                    let Some(open) = open else { return };
                    let Some(load) = open.waiting.remove(&slot) else { return };
                    open.tail = Some(slot);
                    self.waiting_bytes -= load.size_bytes();
                    steps.push(Step::Encode(range, track, load));
                }
            }
        }
    }

    /// The block that follows `tail`, or the range's first block if nothing is encoded yet, as far as links prove it.
    fn successor(&self, range: CommitRange, tail: Option<Slot>) -> Successor {
        let from = tail.map_or(range.first, |tail| tail + 1);
        let Some((&slot, link)) = self.links.range(from..).next() else { return Successor::Unknown };
        let proven = match tail {
            Some(tail) => link.parent == tail,
            // Genesis is its own parent.
            None => link.parent < range.first || slot == 0,
        };
        match (proven, range.contains(slot)) {
            (false, _) => Successor::Unknown,
            (true, true) => Successor::Block(slot),
            (true, false) => Successor::Beyond,
        }
    }

    fn complete(&mut self, range: CommitRange, track: Track, steps: &mut Vec<Step>) {
        let Some(open) = self.ranges.get_mut(&range.first) else { return };
        close(open, track);
        if track != Track::Content {
            steps.push(Step::Commit(range, track, Vec::new()));
            return;
        }
        self.committed.insert(range.first);
        steps.push(Step::Commit(range, track, self.skips(range)));
        self.abandon_extras(range, steps);
    }

    fn skips(&self, range: CommitRange) -> Vec<Skip> {
        let mut skips = Vec::new();
        for (&child, link) in self.links.range(range.first..) {
            let skip = Skip { parent: link.parent, child };
            if !skip.slots_in(range).is_empty() {
                skips.push(skip);
            }
            if child > range.last {
                break;
            }
        }
        skips
    }

    /// Keeps of a range that is done with only the links that prove something of its neighbours.
    fn close_range(&mut self, first: Slot) {
        self.ranges.remove(&first);
        let links = std::mem::take(&mut self.links);
        let mut rest = links.into_iter().peekable();
        while let Some((slot, link)) = rest.next() {
            let range = self.range_of(slot);
            let is_last = rest.peek().is_none_or(|(next, _)| !range.contains(*next));
            let proves_older = !self.are_done(self.range_of(link.parent.min(slot)), range.first);
            let joins_younger = is_last && !self.is_done(range.next());
            if !self.is_done(range) || proves_older || joins_younger {
                self.links.insert(slot, link);
            }
        }
    }

    /// Whether nothing is to be made of a range any more.
    fn is_done(&self, range: CommitRange) -> bool {
        let committed = self.committed.contains(&range.first) && !self.ranges.contains_key(&range.first);
        committed || self.config.floor.is_some_and(|floor| range.last < floor)
    }

    /// Whether that holds for all ranges from `range` on that begin before `end`.
    fn are_done(&self, range: CommitRange, end: Slot) -> bool {
        let floor = self.config.floor.map_or(0, |floor| self.range_of(floor).first);
        let first = self.range_of(range.first.max(floor));
        let ranges = std::iter::successors(Some(first), |range| Some(range.next()));
        ranges.take_while(|range| range.first < end).all(|range| self.is_done(range))
    }
}

/// Closes a track and returns the bytes that waited on it.
fn close(open: &mut OpenRange, track: Track) -> usize {
    match std::mem::replace(&mut open.tracks[track as usize], TrackState::Closed) {
        TrackState::Open(open) => open.waiting.values().map(Load::size_bytes).sum(),
        TrackState::Closed => 0,
    }
}

#[cfg(test)]
mod tests;
