//! Which slots to fill: as they are written on the command line, and as the node's clock tells.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use sluice_sinks::parquet::MAX_SLOT;
use sluice_stages::node::Clock;
use sluice_stages::recovery::pool::{RpcList, RpcPool};
use sluice_stages::recovery::rpc::FetchError;
use sluice_stages::slot::{Commitment, SLOTS_PER_EPOCH, Slot};

/// The chain's time from slot to slot.
const SLOT_TIME: Duration = Duration::from_millis(400);
/// Guesses of the slot of a time; each is off by a tenth of the one before, as slots take 390 to 440 ms.
const MAX_GUESSES: u32 = 8;
/// Slots in which a block is looked for: leaders that skip come four slots at a time.
const LOOK_SLOTS: u64 = 64;
/// How near a guess has to come; files begin at rounded slots anyway.
const NEAR_SECONDS: i64 = 2;
/// Tries of one question, or of a few small ones.
const MAX_TRIES: u32 = 5;
/// The wait between two of them.
const TRY_INTERVAL: Duration = Duration::from_secs(1);

/// Slots from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotSpan {
    /// The first slot.
    pub first: Slot,
    /// The last slot.
    pub last: Slot,
}

impl SlotSpan {
    /// The slots of an epoch of 432,000; `None` if it ends behind [`MAX_SLOT`].
    pub fn of_epoch(epoch: u64) -> Option<Self> {
        let first = epoch.checked_mul(SLOTS_PER_EPOCH)?;
        let last = first.checked_add(SLOTS_PER_EPOCH - 1).filter(|&last| last <= MAX_SLOT)?;
        Some(Self { first, last })
    }
}

impl FromStr for SlotSpan {
    type Err = String;

    /// Reads `A..B` (without B) and `A..=B` (with B).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!("`{text}` is no range of slots; write it like 1000..2000 (without 2000) or 1000..=1999")
        };
        let (first, last) = text.split_once("..").ok_or_else(wrong)?;
        let number = |digits: &str| digits.trim().replace('_', "").parse::<Slot>().map_err(|_| wrong());
        let (first, last) = match last.strip_prefix('=') {
            Some(last) => (number(first)?, Some(number(last)?)),
            None => (number(first)?, number(last)?.checked_sub(1)),
        };
        match last.filter(|&last| first <= last) {
            Some(last) if last > MAX_SLOT => {
                Err(format!("`{text}` goes beyond slot {MAX_SLOT}, the last that files can be of"))
            }
            Some(last) => Ok(Self { first, last }),
            None => Err(format!("there is no slot in `{text}`")),
        }
    }
}

/// The slots since `ago` that lie in ranges of `commit_slots` whose end is final, too.
pub(super) async fn since(rpc: &RpcList, ago: Duration, commit_slots: u64) -> anyhow::Result<SlotSpan> {
    let rpc = RpcPool::try_new(rpc, Clock::start())?;
    let mut tries = Tries::default();
    let tip = loop {
        match rpc.slot(Commitment::Finalized).await {
            Ok(tip) => break tip,
            Err(error) => tries.after(error).await?,
        }
    };
    let (newest, now) = block_at(&rpc, tip.saturating_sub(LOOK_SLOTS), tip).await?;
    let target = now - i64::try_from(ago.as_secs()).context("that long ago there was no chain")?;
    let (mut slot, mut time) = (newest, now);
    for _ in 0..MAX_GUESSES {
        if (time - target).abs() <= NEAR_SECONDS {
            break;
        }
        let slots = Duration::from_secs((time - target).unsigned_abs()).as_millis() / SLOT_TIME.as_millis();
        let slots = u64::try_from(slots).unwrap_or(u64::MAX);
        let guess = if time > target { slot.saturating_sub(slots) } else { slot.saturating_add(slots) };
        (slot, time) = block_at(&rpc, guess.min(newest), tip).await?;
    }
    // The range that the tip is in is not whole yet, and the one before may lack its proof.
    let end = newest.saturating_sub(newest % commit_slots);
    match end.checked_sub(1).filter(|&last| slot <= last) {
        Some(last) => Ok(SlotSpan { first: slot, last }),
        None => {
            bail!("no file of {commit_slots} slots has ended since then; ask for more time, or for slots")
        }
    }
}

/// The first block at or behind `slot`, and its time.
async fn block_at(rpc: &RpcPool, slot: Slot, tip: Slot) -> anyhow::Result<(Slot, i64)> {
    let last = slot.saturating_add(LOOK_SLOTS).min(tip);
    let mut tries = Tries::default();
    let slots = loop {
        match rpc.blocks(slot, last, Commitment::Finalized).await {
            Ok(slots) => break slots,
            Err(error) => tries.after(error).await?,
        }
    };
    for found in slots {
        loop {
            match rpc.block_time(found).await {
                Ok(Some(time)) => return Ok((found, time)),
                Ok(None) => break,
                Err(error) => tries.after(error).await?,
            }
        }
    }
    bail!("the RPC node knows no time of any block in slots {slot} to {last}; ask for slots with --slots")
}

/// Counts tries: whoever waits here has typed a command.
#[derive(Debug, Default)]
struct Tries(u32);

impl Tries {
    /// Waits for the next try, if there is to be one.
    async fn after(&mut self, error: FetchError) -> anyhow::Result<()> {
        self.0 += 1;
        if self.0 >= MAX_TRIES || !error.is_retryable() {
            return Err(error.into());
        }
        tokio::time::sleep(error.retry_after().unwrap_or(TRY_INTERVAL)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_and_without_their_end() {
        let span = |first, last| Ok(SlotSpan { first, last });
        assert_eq!("1000..2000".parse(), span(1000, 1999));
        assert_eq!("1_000..=2_000".parse(), span(1000, 2000));
        for wrong in ["", "5", "5..5", "9..=3", "..", "a..b", "1..-2", "0..0"] {
            assert!(wrong.parse::<SlotSpan>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_span_ends_where_the_names_of_files_do() {
        assert_eq!("0..1000000000000".parse(), Ok(SlotSpan { first: 0, last: MAX_SLOT }));
        for beyond in ["0..=1000000000000", "0..18446744073709551615", "5..=18446744073709551615"] {
            let told = beyond.parse::<SlotSpan>().expect_err(beyond);
            assert!(told.contains("beyond slot 999999999999"), "{told}");
        }
    }

    #[test]
    fn an_epoch_is_whole_files() {
        assert_eq!(SlotSpan::of_epoch(2), Some(SlotSpan { first: 864_000, last: 1_295_999 }));
        assert_eq!(SlotSpan::of_epoch(u64::MAX), None);
    }
}
