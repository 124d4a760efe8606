//! What stands at each index of a slot: transactions or entries, by version.
//!
//! Nearly always one update for each index. Where a slot has several versions (a bank reset, a repaired duplicate block)
//! an index can have several: the first to come is *the first*, the others are *others*. Looking an index up is an array
//! access; equality is a full compare of the content, since a fingerprint can be forged.

use crate::batch::Update;

/// The highest index that a slot may have, which bounds what a forged one can allocate. The largest block seen on
/// mainnet held 43,066 transactions.
pub const MAX_INDEX: u32 = 1 << 18;

/// The updates of one kind of one slot, by index.
#[derive(Debug, Default)]
pub struct Candidates {
    firsts: Vec<Option<Update>>,
    others: Vec<(u32, Update)>,
}

/// Which of an index' candidates an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that came first.
    First,
    /// The one at this position of the others.
    Other(usize),
}

/// What became of an update that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It was not there; it is now.
    New(Which),
    /// It was there.
    Repeat(Which),
    /// Its index is beyond [`MAX_INDEX`].
    Refused,
}

impl Candidates {
    /// The candidate that `update` equals, if there is one. `Err(())` if its index is beyond [`MAX_INDEX`].
    fn position(&self, update: &Update) -> Option<Which> {
        let index = update.frame.header.index;
        let first = self.first(index)?;
        if same(first, update) {
            return Some(Which::First);
        }
        let equal = |(at, other): &(u32, Update)| *at == index && same(other, update);
        self.others.iter().position(equal).map(Which::Other)
    }

    /// Says whether `update` is there already, and where.
    pub fn find(&self, update: &Update) -> Option<Which> {
        self.position(update)
    }

    /// Adds `update` unless it is there.
    pub fn offer(&mut self, update: &Update) -> Offer {
        let index = update.frame.header.index;
        if index > MAX_INDEX {
            return Offer::Refused;
        }
        if let Some(which) = self.position(update) {
            return Offer::Repeat(which);
        }
        Offer::New(self.add(index, update.clone()))
    }

    fn add(&mut self, index: u32, update: Update) -> Which {
        let at = index as usize;
        if self.firsts.len() <= at {
            self.firsts.resize_with(at + 1, || None);
        }
        if self.firsts[at].is_none() {
            self.firsts[at] = Some(update);
            return Which::First;
        }
        self.others.push((index, update));
        Which::Other(self.others.len() - 1)
    }

    /// The first candidate at `index`.
    pub fn first(&self, index: u32) -> Option<&Update> {
        self.firsts.get(index as usize)?.as_ref()
    }

    /// The candidate that `which` names at `index`.
    pub fn get(&self, index: u32, which: Which) -> Option<&Update> {
        match which {
            Which::First => self.first(index),
            Which::Other(position) => self.others.get(position).map(|(_, update)| update),
        }
    }

    /// One more than the highest index that has a candidate.
    pub fn end(&self) -> u32 {
        self.firsts.len() as u32
    }
}

fn same(one: &Update, other: &Update) -> bool {
    one.frame.header.kind == other.frame.header.kind && one.frame.content() == other.frame.content()
}

/// Which candidates one lane delivered.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    firsts: Vec<u64>,
    others: Vec<(u32, usize)>,
    count: u32,
}

impl Delivered {
    /// Notes a candidate; false if it was noted before.
    pub fn insert(&mut self, index: u32, which: Which) -> bool {
        let fresh = match which {
            Which::First => self.set(index),
            Which::Other(position) if self.others.contains(&(index, position)) => false,
            Which::Other(position) => {
                self.others.push((index, position));
                true
            }
        };
        self.count += u32::from(fresh);
        fresh
    }

    fn set(&mut self, index: u32) -> bool {
        let (word, bit) = ((index / 64) as usize, 1_u64 << (index % 64));
        if self.firsts.len() <= word {
            self.firsts.resize(word + 1, 0);
        }
        let fresh = self.firsts[word] & bit == 0;
        self.firsts[word] |= bit;
        fresh
    }

    /// Number of candidates noted.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The candidate noted at `index`. The first one wins where a lane delivered several, which only a lane without
    /// bank ids can.
    pub fn at(&self, index: u32) -> Option<Which> {
        let word = self.firsts.get((index / 64) as usize).copied().unwrap_or(0);
        if word & (1 << (index % 64)) != 0 {
            return Some(Which::First);
        }
        let noted = self.others.iter().find(|(at, _)| *at == index);
        noted.map(|&(_, position)| Which::Other(position))
    }

    /// Whether two candidates were noted for one index.
    pub fn is_ambiguous(&self) -> bool {
        self.others.iter().enumerate().any(|(place, &(index, _))| {
            let word = self.firsts.get((index / 64) as usize).copied().unwrap_or(0);
            word & (1 << (index % 64)) != 0 || self.others[..place].iter().any(|&(at, _)| at == index)
        })
    }

    /// Whether `other` is of the same candidates.
    pub fn is_same(&self, other: &Self) -> bool {
        let noted_there = |noted| other.others.contains(noted);
        self.firsts == other.firsts
            && self.others.len() == other.others.len()
            && self.others.iter().all(noted_there)
    }

    /// One more than the highest index noted.
    pub fn end(&self) -> u32 {
        let last = self.firsts.iter().rposition(|&word| word != 0);
        let firsts = last.map_or(0, |word| word as u32 * 64 + 64 - self.firsts[word].leading_zeros());
        self.others.iter().map(|&(index, _)| index + 1).fold(firsts, u32::max)
    }
}
