//! How events of the script become updates: filtered, under the subscriber's names, in the endpoint's numbering.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use yellowstone_grpc_proto::prelude::subscribe_update::UpdateOneof;
use yellowstone_grpc_proto::prelude::{
    SlotStatus, SubscribeUpdateAccount, SubscribeUpdateAccountInfo, SubscribeUpdateBlock,
    SubscribeUpdateEntry, SubscribeUpdatePing, SubscribeUpdatePong, SubscribeUpdateSlot,
    SubscribeUpdateTransactionInfo, SubscribeUpdateTransactionStatus,
};

use super::filter::BlockFilter;
use super::frame;
use super::script::{Event, SlotEvent, Timed};
use super::subscription::{Emission, Subscription, commitment_status};
use super::timeline::Level;
use crate::ledger::{LedgerSlot, RecordedFrame, Version};

/// More than the 4 MiB that gRPC clients take by default.
const OVERSIZE_BYTES: usize = 5 << 20;

impl Subscription {
    pub(super) fn emit(&mut self, timed: &Timed, out: &mut Vec<Emission>) {
        let at = self.unix(timed.at);
        match &timed.event {
            Event::End(status) => self.end(Emission::End(status.clone()), out),
            Event::Close => self.end(Emission::Close, out),
            Event::Hang => self.end(Emission::Hang, out),
            Event::Stall(slots) => {
                self.resume_at = timed.at + self.endpoint.shared.timeline.slot_time() * *slots;
            }
            Event::Garbage(noise) => out.push(Emission::Frame(garbage(*noise))),
            Event::Oversize => {
                let ping = UpdateOneof::Ping(SubscribeUpdatePing {});
                out.push(Emission::Frame(frame::padded(ping, at, OVERSIZE_BYTES)));
            }
            Event::Pong(id) => {
                let pong = UpdateOneof::Pong(SubscribeUpdatePong { id: *id });
                out.push(Emission::Frame(frame::update(&[], pong, at)));
            }
            Event::Status(status) => self.emit_status(status, at, out),
            Event::Reached(slot, level, bank) => self.emit_reached(slot, *level, *bank, timed.at),
            Event::Recorded(slot, place) => self.emit_recorded(&slot.frames[*place], timed.at, out),
            content => self.emit_content(content, at, out),
        }
    }

    fn end(&mut self, emission: Emission, out: &mut Vec<Emission>) {
        self.ended = true;
        out.push(emission);
    }

    fn emit_status(&self, event: &SlotEvent, at: Duration, out: &mut Vec<Emission>) {
        let names = self.filters.for_slot(event.status);
        if names.is_empty() {
            return;
        }
        let update = UpdateOneof::Slot(SubscribeUpdateSlot {
            slot: event.slot,
            parent: event.parent,
            status: event.status as i32,
            dead_error: event.dead_error.clone(),
            bank_id: (event.bank != 0).then_some(event.bank),
        });
        out.push(Emission::Frame(frame::update(&names, update, at)));
    }

    /// Above processed, a slot's content comes when the slot reaches the level, then its status.
    fn emit_reached(&mut self, slot: &LedgerSlot, level: Level, bank: u64, at: Duration) {
        let Some(version) = slot.canonical() else { return };
        if self.filters.level() == level {
            self.queue_content(version, bank, at, false);
        }
        self.due.push_back(Timed { at, event: Event::Status(commitment_status(version, level, bank)) });
    }

    fn emit_recorded(&mut self, recorded: &RecordedFrame, at: Duration, out: &mut Vec<Emission>) {
        let processed = self.filters.level() == Level::Processed;
        let names = match &recorded.update {
            UpdateOneof::Slot(update) => {
                self.reach_recorded(update, at);
                let status = SlotStatus::try_from(update.status).unwrap_or(SlotStatus::SlotProcessed);
                self.filters.for_slot(status)
            }
            _ if !processed => return,
            UpdateOneof::Transaction(update) => {
                let Some(info) = &update.transaction else { return };
                self.emit_transaction_status(info, update.slot, update.bank_id, self.unix(at), out);
                self.filters.for_transaction(info)
            }
            UpdateOneof::Account(update) => {
                let Some(account) = &update.account else { return };
                if self.filters.has_slices() {
                    let bank = update.bank_id.unwrap_or_default();
                    return self.emit_account(account.clone(), update.slot, bank, self.unix(at), out);
                }
                self.filters.for_account(account)
            }
            UpdateOneof::Entry(_) => self.filters.for_entry(),
            UpdateOneof::BlockMeta(meta) => {
                self.emit_recorded_block(meta.slot, self.unix(at), out);
                self.filters.for_meta()
            }
            _ => Vec::new(),
        };
        if !names.is_empty() {
            out.push(Emission::Frame(frame::recorded(&names, &recorded.body)));
        }
    }

    /// Content of a recorded slot, for subscribers above processed, when the recording tells the level.
    fn reach_recorded(&mut self, update: &SubscribeUpdateSlot, at: Duration) {
        let level = self.filters.level();
        if level == Level::Processed || update.status != level.status() as i32 {
            return;
        }
        let slot = self.endpoint.shared.ledger.slot(update.slot).filter(|slot| slot.replayable);
        if let Some(version) = slot.as_ref().and_then(|slot| slot.canonical()) {
            self.queue_content(version, update.bank_id.unwrap_or_default(), at, false);
        }
    }

    fn emit_recorded_block(&self, slot: u64, at: Duration, out: &mut Vec<Emission>) {
        if self.filters.blocks.is_empty() {
            return;
        }
        let slot = self.endpoint.shared.ledger.slot(slot);
        if let Some(version) = slot.as_ref().and_then(|slot| slot.canonical()) {
            self.emit_block(version, 0, at, out);
        }
    }

    fn emit_content(&self, event: &Event, at: Duration, out: &mut Vec<Emission>) {
        match event {
            Event::Transaction(version, bank, index) => {
                self.emit_transaction(version, *bank, *index, at, out)
            }
            Event::Entry(version, bank, place) => {
                let names = self.filters.for_entry();
                if !names.is_empty() {
                    let entry =
                        SubscribeUpdateEntry { bank_id: *bank, ..version.block.entries[*place].clone() };
                    out.push(Emission::Frame(frame::update(&names, UpdateOneof::Entry(entry), at)));
                }
            }
            Event::Account(version, bank, place) => {
                let mut account = version.block.accounts[*place].clone();
                account.write_version += self.endpoint.write_version_offset();
                self.emit_account(account, version.block.slot, *bank, at, out);
            }
            Event::Block(version, bank) => self.emit_block(version, *bank, at, out),
            Event::Meta(version, bank, skew) => {
                let names = self.filters.for_meta();
                if !names.is_empty() {
                    let mut meta = version.block.meta(*bank);
                    meta.entries_count = self.endpoint.told_entries(version);
                    meta.executed_transaction_count =
                        meta.executed_transaction_count.saturating_add_signed(*skew);
                    out.push(Emission::Frame(frame::update(&names, UpdateOneof::BlockMeta(meta), at)));
                }
            }
            _ => {}
        }
    }

    fn emit_transaction(
        &self,
        version: &Version,
        bank: u64,
        index: usize,
        at: Duration,
        out: &mut Vec<Emission>,
    ) {
        let block = &version.block;
        let info = &block.transactions[index];
        self.emit_transaction_status(info, block.slot, bank, at, out);
        let names = self.filters.for_transaction(info);
        if !names.is_empty() {
            let encoded = &version.encoded_transactions()[index];
            out.push(Emission::Frame(frame::transaction(&names, encoded, block.slot, bank, at)));
        }
    }

    fn emit_transaction_status(
        &self,
        info: &SubscribeUpdateTransactionInfo,
        slot: u64,
        bank_id: u64,
        at: Duration,
        out: &mut Vec<Emission>,
    ) {
        let names = self.filters.for_transaction_status(info);
        if names.is_empty() {
            return;
        }
        let update = UpdateOneof::TransactionStatus(SubscribeUpdateTransactionStatus {
            slot,
            signature: info.signature.clone(),
            is_vote: info.is_vote,
            index: info.index,
            err: info.meta.as_ref().and_then(|meta| meta.err.clone()),
            bank_id,
        });
        out.push(Emission::Frame(frame::update(&names, update, at)));
    }

    fn emit_account(
        &self,
        mut account: SubscribeUpdateAccountInfo,
        slot: u64,
        bank: u64,
        at: Duration,
        out: &mut Vec<Emission>,
    ) {
        let names = self.filters.for_account(&account);
        if names.is_empty() {
            return;
        }
        account.data = self.filters.slice(&account.data);
        let update = UpdateOneof::Account(SubscribeUpdateAccount {
            account: Some(account),
            slot,
            is_startup: false,
            bank_id: (bank != 0).then_some(bank),
        });
        out.push(Emission::Frame(frame::update(&names, update, at)));
    }

    /// One message for each block filter.
    fn emit_block(&self, version: &Version, bank: u64, at: Duration, out: &mut Vec<Emission>) {
        for (name, filter) in &self.filters.blocks {
            let update = UpdateOneof::Block(self.block_update(version, bank, filter));
            out.push(Emission::Frame(frame::update(&[name], update, at)));
        }
    }

    fn block_update(&self, version: &Version, bank: u64, filter: &BlockFilter) -> SubscribeUpdateBlock {
        let block = &version.block;
        let meta = block.meta(bank);
        let transactions = block.transactions.iter().filter(|info| filter.wants_transaction(info));
        let accounts = last_writes(&block.accounts).map(|place| &block.accounts[place]);
        let accounts = accounts.filter(|account| filter.wants_account(account)).cloned();
        let sliced = accounts.map(|mut account| {
            account.data = self.filters.slice(&account.data);
            account.write_version += self.endpoint.write_version_offset();
            account
        });
        SubscribeUpdateBlock {
            slot: meta.slot,
            blockhash: meta.blockhash,
            rewards: meta.rewards,
            block_time: meta.block_time,
            block_height: meta.block_height,
            parent_slot: meta.parent_slot,
            parent_blockhash: meta.parent_blockhash,
            executed_transaction_count: meta.executed_transaction_count,
            transactions: if filter.transactions { transactions.cloned().collect() } else { Vec::new() },
            updated_account_count: last_writes(&block.accounts).count() as u64,
            accounts: if filter.accounts { sliced.collect() } else { Vec::new() },
            entries_count: self.endpoint.told_entries(version),
            entries: if filter.entries { block.entries.clone() } else { Vec::new() },
            bank_id: bank,
        }
    }
}

/// The places of each account's last write, ascending.
pub(super) fn last_writes(accounts: &[SubscribeUpdateAccountInfo]) -> impl Iterator<Item = usize> {
    let mut last: HashMap<&[u8], (u64, usize)> = HashMap::new();
    for (place, account) in accounts.iter().enumerate() {
        let newest = last.entry(&account.pubkey).or_insert((account.write_version, place));
        if account.write_version >= newest.0 {
            *newest = (account.write_version, place);
        }
    }
    let mut places: Vec<usize> = last.into_values().map(|(_, place)| place).collect();
    places.sort_unstable();
    places.into_iter()
}

/// Bytes that no protobuf reader takes: a length that reaches beyond the end.
fn garbage(noise: u64) -> Bytes {
    let mut bytes = vec![0x22, 0xff, 0x7f];
    bytes.extend(noise.to_le_bytes());
    Bytes::from(bytes)
}
