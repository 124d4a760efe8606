//! The requests of a subscription. Pure.
//!
//! To the user's filters come Sluice's own ([`LEDGER_FILTER`]): the statuses of all slots and the metas of all blocks,
//! which the slot ledger lives on. Frames that only these matched are marked ([`crate::frame::Header::ledger_only`]) and
//! hidden from sinks. A ping carries the same filters as the subscription: servers that take it for a ping ignore them,
//! servers that take it for a new request go on as before.

use std::collections::HashMap;

use yellowstone_grpc_proto::geyser::{
    CommitmentLevel, SubscribeRequest, SubscribeRequestAccountsDataSlice, SubscribeRequestFilterAccounts,
    SubscribeRequestFilterAccountsFilter, SubscribeRequestFilterAccountsFilterLamports,
    SubscribeRequestFilterAccountsFilterMemcmp, SubscribeRequestFilterBlockFooter,
    SubscribeRequestFilterBlocks, SubscribeRequestFilterBlocksMeta, SubscribeRequestFilterEntry,
    SubscribeRequestFilterSlots, SubscribeRequestFilterTransactions, SubscribeRequestPing,
    TokenAccountExpansionControlFlag, subscribe_request_filter_accounts_filter::Filter,
    subscribe_request_filter_accounts_filter_lamports::Cmp,
    subscribe_request_filter_accounts_filter_memcmp::Data,
};

use super::filters::{
    AccountFilterOptions, BlockFilterOptions, BlockFooterFilterOptions, EntryFilterOptions, LamportsOptions,
    MemcmpOptions, Selection, SlotFilterOptions, TokenAccounts, TransactionFilterOptions,
};
use super::options::YellowstoneOptions;
use crate::slot::Slot;

/// The name of Sluice's own filters.
pub const LEDGER_FILTER: &str = "__sluice";

/// The name of the filter that stands for `true`.
pub const EVERYTHING_FILTER: &str = "all";

/// The request that opens a subscription, from the tip or from `from_slot` on.
pub fn subscribe(options: &YellowstoneOptions, from_slot: Option<Slot>) -> SubscribeRequest {
    let mut request = SubscribeRequest {
        accounts: named(&options.accounts, account),
        slots: named(&options.slots, slot),
        transactions: named(options.selected_transactions(), transaction),
        transactions_status: named(&options.transactions_status, transaction),
        blocks: named(&options.blocks, block),
        blocks_meta: named(&options.blocks_meta, |_| SubscribeRequestFilterBlocksMeta {}),
        entry: named(&options.entries, entry),
        block_footer: named(&options.block_footer, block_footer),
        commitment: Some(CommitmentLevel::Processed as i32),
        accounts_data_slice: data_slices(options),
        ping: None,
        from_slot,
    };
    // Both flags are applied by servers: only this combination shows dead slots and created banks.
    let all_statuses =
        SubscribeRequestFilterSlots { filter_by_commitment: Some(false), interslot_updates: Some(true) };
    request.slots.insert(LEDGER_FILTER.to_owned(), all_statuses);
    request.blocks_meta.insert(LEDGER_FILTER.to_owned(), SubscribeRequestFilterBlocksMeta {});
    request
}

/// The request of an endpoint that stands by: the statuses of all slots, and nothing else.
pub fn standby() -> SubscribeRequest {
    let all_statuses =
        SubscribeRequestFilterSlots { filter_by_commitment: Some(false), interslot_updates: Some(true) };
    SubscribeRequest {
        slots: HashMap::from([(LEDGER_FILTER.to_owned(), all_statuses)]),
        commitment: Some(CommitmentLevel::Processed as i32),
        ..SubscribeRequest::default()
    }
}

/// The same request as the `number`th of its stream: Sluice's own filters carry the number, so that the first update that
/// names it shows that the server has taken the request.
pub fn numbered(mut request: SubscribeRequest, number: u32) -> SubscribeRequest {
    let name = filter_name(number);
    if let Some(filter) = request.slots.remove(LEDGER_FILTER) {
        request.slots.insert(name.clone(), filter);
    }
    if let Some(filter) = request.blocks_meta.remove(LEDGER_FILTER) {
        request.blocks_meta.insert(name, filter);
    }
    request
}

/// The name of Sluice's own filters in the `number`th request of a stream, the first being 0.
pub fn filter_name(number: u32) -> String {
    if number == 0 { LEDGER_FILTER.to_owned() } else { format!("{LEDGER_FILTER}_{number}") }
}

/// A ping on a subscription that was opened with [`subscribe`].
pub fn ping(options: &YellowstoneOptions, id: i32) -> SubscribeRequest {
    ping_beside(subscribe(options, None), id)
}

/// A ping on a subscription whose filters are those of `current`.
pub fn ping_beside(current: SubscribeRequest, id: i32) -> SubscribeRequest {
    SubscribeRequest { ping: Some(SubscribeRequestPing { id }), from_slot: None, ..current }
}

fn named<F: Default, P>(selection: &Selection<F>, convert: impl Fn(&F) -> P) -> HashMap<String, P> {
    match selection {
        Selection::Nothing => HashMap::new(),
        Selection::Everything => HashMap::from([(EVERYTHING_FILTER.to_owned(), convert(&F::default()))]),
        Selection::Named(filters) => {
            filters.iter().map(|(name, filter)| (name.clone(), convert(filter))).collect()
        }
    }
}

fn transaction(filter: &TransactionFilterOptions) -> SubscribeRequestFilterTransactions {
    let token_accounts = filter.token_accounts.map(|flag| match flag {
        TokenAccounts::All => TokenAccountExpansionControlFlag::All as i32,
        TokenAccounts::BalanceChanged => TokenAccountExpansionControlFlag::BalanceChanged as i32,
    });
    SubscribeRequestFilterTransactions {
        vote: filter.vote,
        failed: filter.failed,
        signature: filter.signature.clone(),
        account_include: filter.account_include.clone(),
        account_exclude: filter.account_exclude.clone(),
        account_required: filter.account_required.clone(),
        cuckoo_account_include: None,
        token_accounts,
    }
}

fn account(filter: &AccountFilterOptions) -> SubscribeRequestFilterAccounts {
    let memcmp = filter.memcmp.iter().map(|memcmp| Filter::Memcmp(self::memcmp(memcmp)));
    let filters = memcmp
        .chain(filter.datasize.map(Filter::Datasize))
        .chain(filter.token_account_state.map(Filter::TokenAccountState))
        .chain(filter.lamports.as_ref().map(|bound| Filter::Lamports(lamports(bound))))
        .map(|filter| SubscribeRequestFilterAccountsFilter { filter: Some(filter) })
        .collect();
    SubscribeRequestFilterAccounts {
        account: filter.account.clone(),
        owner: filter.owner.clone(),
        filters,
        nonempty_txn_signature: filter.nonempty_txn_signature,
        cuckoo_accounts_filter: None,
    }
}

fn memcmp(memcmp: &MemcmpOptions) -> SubscribeRequestFilterAccountsFilterMemcmp {
    let base58 = memcmp.base58.clone().map(Data::Base58);
    let data = base58.or_else(|| memcmp.base64.clone().map(Data::Base64));
    SubscribeRequestFilterAccountsFilterMemcmp { offset: memcmp.offset, data }
}

fn lamports(bound: &LamportsOptions) -> SubscribeRequestFilterAccountsFilterLamports {
    let cmp = bound
        .eq
        .map(Cmp::Eq)
        .or_else(|| bound.ne.map(Cmp::Ne))
        .or_else(|| bound.lt.map(Cmp::Lt))
        .or_else(|| bound.gt.map(Cmp::Gt));
    SubscribeRequestFilterAccountsFilterLamports { cmp }
}

fn slot(filter: &SlotFilterOptions) -> SubscribeRequestFilterSlots {
    SubscribeRequestFilterSlots {
        filter_by_commitment: Some(filter.filter_by_commitment),
        interslot_updates: Some(filter.interslot_updates),
    }
}

fn block(filter: &BlockFilterOptions) -> SubscribeRequestFilterBlocks {
    SubscribeRequestFilterBlocks {
        account_include: filter.account_include.clone(),
        include_transactions: filter.include_transactions,
        include_accounts: filter.include_accounts,
        include_entries: filter.include_entries,
        cuckoo_account_include: None,
    }
}

fn entry(filter: &EntryFilterOptions) -> SubscribeRequestFilterEntry {
    SubscribeRequestFilterEntry { include_update_parent: filter.include_update_parent.then_some(true) }
}

fn block_footer(filter: &BlockFooterFilterOptions) -> SubscribeRequestFilterBlockFooter {
    SubscribeRequestFilterBlockFooter { include_certificates: filter.include_certificates.then_some(true) }
}

fn data_slices(options: &YellowstoneOptions) -> Vec<SubscribeRequestAccountsDataSlice> {
    let slices = options.accounts_data_slice.iter();
    slices
        .map(|slice| SubscribeRequestAccountsDataSlice { offset: slice.offset, length: slice.length })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> YellowstoneOptions {
        toml::from_str(&format!("url = 'https://host'\n{text}")).expect("valid options")
    }

    #[test]
    fn the_ledger_gets_every_status_and_every_meta() {
        let request = subscribe(&options(""), None);
        let slots = &request.slots[LEDGER_FILTER];
        assert_eq!((slots.interslot_updates, slots.filter_by_commitment), (Some(true), Some(false)));
        assert!(request.blocks_meta.contains_key(LEDGER_FILTER));
        assert_eq!(request.commitment, Some(CommitmentLevel::Processed as i32));
        assert_eq!(request.transactions[EVERYTHING_FILTER], SubscribeRequestFilterTransactions::default());
    }

    #[test]
    fn a_ping_keeps_the_filters_and_never_asks_for_a_replay() {
        let options = options("entries = true");
        let ping = ping(&options, 7);
        assert_eq!(ping.ping, Some(SubscribeRequestPing { id: 7 }));
        assert_eq!(SubscribeRequest { ping: None, ..ping }, subscribe(&options, None));
    }

    #[test]
    fn every_filter_of_the_protocol_can_be_said() {
        let text = "
            accounts_data_slice = [{ offset = 1, length = 2 }]
            [transactions.t]
            vote = false
            token_accounts = 'balance_changed'
            account_required = ['So11111111111111111111111111111111111111112']
            [accounts.a]
            datasize = 165
            token_account_state = true
            nonempty_txn_signature = true
            lamports = { gt = 5 }
            memcmp = [{ offset = 3, base64 = 'AQ==' }]
            [entries.e]
            include_update_parent = true
            [blocks.b]
            include_accounts = true
            [slots.s]
            interslot_updates = true
            [block_footer.f]
            include_certificates = true
        ";
        let request = subscribe(&options(text), Some(9));
        assert_eq!(request.accounts["a"].filters.len(), 4);
        assert_eq!(request.accounts["a"].nonempty_txn_signature, Some(true));
        assert_eq!(request.transactions["t"].token_accounts, Some(1));
        assert_eq!(request.transactions["t"].account_required.len(), 1);
        assert_eq!(request.entry["e"].include_update_parent, Some(true));
        assert_eq!(request.blocks["b"].include_accounts, Some(true));
        assert_eq!(request.slots.len(), 2);
        assert_eq!(request.block_footer["f"].include_certificates, Some(true));
        assert_eq!(request.accounts_data_slice[0].length, 2);
        assert_eq!(request.from_slot, Some(9));
    }
}
