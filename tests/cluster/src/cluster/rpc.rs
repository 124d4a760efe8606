//! The JSON-RPC side: what a validator's RPC port answers about the ledger, and the faults of the way there.
//!
//! Reference: <https://solana.com/docs/rpc/http>. Error codes are Agave's (`RpcCustomError`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use yellowstone_grpc_proto::prelude::SubscribeUpdateAccountInfo;

use super::Shared;
use super::answer::{self, BlockOptions, Details, Encoding, UnsupportedVersion};
use super::timeline::Level;
use crate::faults::{Fault, RpcFault};
use crate::ledger::{EPOCH_SLOTS, LedgerSlot, Version};
use crate::random::digest;

const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;
const BLOCK_CLEANED_UP: i64 = -32_001;
const BLOCK_NOT_AVAILABLE: i64 = -32_004;
const SLOT_SKIPPED: i64 = -32_007;
const LONG_TERM_SLOT_SKIPPED: i64 = -32_009;
const UNSUPPORTED_TRANSACTION_VERSION: i64 = -32_015;
/// Slots that `getBlocks` takes at most.
const MAX_BLOCKS_RANGE: u64 = 500_000;
/// Slots behind the tip that a node still has itself; what is older is answered from the archive.
const NODE_SLOTS: u64 = 1_000;
/// Slots in which the last write of an account is looked for.
const ACCOUNT_SLOTS: u64 = 200;
/// Keys that `getMultipleAccounts` takes at most.
const MAX_ACCOUNTS: usize = 100;
/// Blocks for which a blockhash stays valid.
const BLOCKHASH_BLOCKS: u64 = 150;
const VERSION: &str = "4.1.2";
/// The place of the RPC side in the fault script, beside the endpoints.
const RPC_NODE: u64 = u64::MAX - 1;

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// Agave's code.
    pub code: i64,
    /// Agave's text.
    pub message: String,
}

/// What a whole HTTP request gets.
#[derive(Debug, Clone, PartialEq)]
pub enum RpcOutcome {
    /// 200 with this body.
    Answer(Value),
    /// An HTTP error.
    Http(u16),
    /// No answer.
    Timeout,
}

/// The JSON-RPC side of a cluster.
#[derive(Debug)]
pub struct Rpc {
    shared: Arc<Shared>,
    requests: AtomicU64,
    /// How often a lie could have been told to one question.
    asked: Mutex<HashMap<(&'static str, u64), u32>>,
    first_slot: OnceLock<u64>,
}

type Answered = Result<Value, RpcError>;

fn error<T>(code: i64, message: impl Into<String>) -> Result<T, RpcError> {
    Err(RpcError { code, message: message.into() })
}

impl Rpc {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, requests: AtomicU64::new(0), asked: Mutex::default(), first_slot: OnceLock::new() }
    }

    /// Answers the body of an HTTP request: one call or a batch of them.
    pub fn request(&self, now: Duration, body: &Value) -> RpcOutcome {
        if let Some(fault) = self.fault(now) {
            self.shared.plan.count(Fault::RpcFailure, 1);
            return match fault {
                RpcFault::Http(code) => RpcOutcome::Http(code),
                RpcFault::Timeout => RpcOutcome::Timeout,
            };
        }
        RpcOutcome::Answer(match body {
            Value::Array(calls) => calls.iter().map(|call| self.envelope(now, call)).collect(),
            call => self.envelope(now, call),
        })
    }

    fn fault(&self, now: Duration) -> Option<RpcFault> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let down = self.shared.plan.is_down(RPC_NODE, self.shared.timeline.position(now));
        if down { Some(RpcFault::Http(503)) } else { self.shared.plan.rpc(number) }
    }

    fn envelope(&self, now: Duration, call: &Value) -> Value {
        let id = call.get("id").cloned().unwrap_or_default();
        let params = call.get("params").cloned().unwrap_or_default();
        let answered = match call.get("method").and_then(Value::as_str) {
            Some(method) => self.call(now, method, &params),
            None => error(INVALID_REQUEST, "Invalid request"),
        };
        match answered {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": error.code, "message": error.message } })
            }
        }
    }

    /// Answers one call. HTTP faults are not among what happens here, lies are.
    pub fn call(&self, now: Duration, method: &str, params: &Value) -> Answered {
        let call = Call { rpc: self, now, params };
        match method {
            "getSlot" => Ok(call.tip(call.level(0)?)?.1.slot.into()),
            "getBlock" => call.block(),
            "getBlocks" => call.blocks(),
            "getBlocksWithLimit" => call.blocks_with_limit(),
            "getBlockTime" => call.block_time(),
            "getBlockHeight" => {
                Ok(call.newest(call.level(0)?)?.block.block_height.unwrap_or_default().into())
            }
            "getLatestBlockhash" => call.latest_blockhash(),
            "getEpochInfo" => call.epoch_info(),
            "getFirstAvailableBlock" | "minimumLedgerSlot" => Ok(self.first_slot().into()),
            "getGenesisHash" => Ok(bs58::encode(digest("cluster", &[])).into_string().into()),
            "getHealth" => Ok("ok".into()),
            "getIdentity" => Ok(json!({ "identity": bs58::encode(digest("identity", &[])).into_string() })),
            "getMultipleAccounts" => call.multiple_accounts(),
            "getVersion" => Ok(json!({ "solana-core": VERSION, "feature-set": 3_640_012_085_u32 })),
            _ => error(METHOD_NOT_FOUND, "Method not found"),
        }
    }

    fn first_slot(&self) -> u64 {
        *self.first_slot.get_or_init(|| {
            let ledger = &self.shared.ledger;
            let first = (0..NODE_SLOTS).find(|&position| ledger.is_canonical(position));
            first.and_then(|position| ledger.number(position)).unwrap_or_default()
        })
    }

    /// The lie that is due for a question, if one is; each question is lied to a bounded number of times.
    fn lie(&self, method: &'static str, slot: u64) -> Option<i64> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let number = asked.entry((method, slot)).or_default();
        let lie = self.shared.plan.rpc_lie(slot, *number);
        *number = number.saturating_add(1);
        if lie.is_some() {
            self.shared.plan.count(Fault::RpcLie, 1);
        }
        lie
    }
}

/// One call with its arguments.
struct Call<'a> {
    rpc: &'a Rpc,
    now: Duration,
    params: &'a Value,
}

impl Call<'_> {
    fn block(&self) -> Answered {
        let slot = self.number(0)?;
        let options = self.block_options()?;
        let found = self.landed(slot, self.block_level(1)?, "getBlock")?;
        let Some(version) = found.canonical() else { return skipped(slot, false) };
        if let Some(answer) = self.recorded(slot, options) {
            return Ok(answer);
        }
        answer::block(&version.block, options).or_else(|UnsupportedVersion(version)| {
            let text = format!(
                "Transaction version ({version}) is not supported by the requesting client. Please try the request again with \
                 the following configuration parameter: \"maxSupportedTransactionVersion\": {version}"
            );
            error(UNSUPPORTED_TRANSACTION_VERSION, text)
        })
    }

    /// The recorded answer, if it was asked for in the same way.
    fn recorded(&self, slot: u64, options: BlockOptions) -> Option<Value> {
        let encoding = match options.encoding {
            Encoding::Json => "json",
            Encoding::Base64 => "base64",
            Encoding::Base58 => return None,
        };
        let same = options.rewards && options.details == Details::Full && options.max_version.is_some();
        let answer = self.rpc.shared.ledger.answer(slot, encoding).filter(|_| same)?;
        answer.get("result").filter(|result| !result.is_null()).cloned()
    }

    fn blocks(&self) -> Answered {
        let start = self.number(0)?;
        let end_given = self.params.get(1).is_some_and(Value::is_number);
        let level = self.block_level(if end_given { 2 } else { 1 })?;
        let tip = self.tip(level)?.1.slot;
        let end = if end_given { self.number(1)?.min(tip) } else { tip };
        if end.saturating_sub(start) > MAX_BLOCKS_RANGE {
            return error(INVALID_PARAMS, format!("Slot range too large; max {MAX_BLOCKS_RANGE}"));
        }
        let mut slots: Vec<u64> = self.canonical_from(start).take_while(|&slot| slot <= end).collect();
        self.withhold(start, &mut slots);
        Ok(slots.into())
    }

    fn blocks_with_limit(&self) -> Answered {
        let (start, limit) = (self.number(0)?, self.number(1)?);
        if limit > MAX_BLOCKS_RANGE {
            return error(INVALID_PARAMS, format!("Limit too large; max {MAX_BLOCKS_RANGE}"));
        }
        let tip = self.tip(self.block_level(2)?)?.1.slot;
        let slots = self.canonical_from(start).take_while(|&slot| slot <= tip).take(limit as usize);
        let mut slots: Vec<u64> = slots.collect();
        self.withhold(start, &mut slots);
        Ok(slots.into())
    }

    /// A list may lie too: one slot is left out.
    fn withhold(&self, start: u64, slots: &mut Vec<u64>) {
        if !slots.is_empty() && self.rpc.lie("getBlocks", start).is_some() {
            slots.remove(start as usize % slots.len());
        }
    }

    fn canonical_from(&self, start: u64) -> impl Iterator<Item = u64> {
        let ledger = &self.rpc.shared.ledger;
        let positions =
            (ledger.position_from(start)..).map_while(|position| Some((position, ledger.number(position)?)));
        positions.filter(|&(position, _)| ledger.is_canonical(position)).map(|(_, slot)| slot)
    }

    fn block_time(&self) -> Answered {
        let slot = self.number(0)?;
        let found = self.landed(slot, Level::Confirmed, "getBlockTime")?;
        match found.canonical() {
            Some(version) => Ok(version.block.block_time.into()),
            None => skipped(slot, false),
        }
    }

    fn latest_blockhash(&self) -> Answered {
        let version = self.newest(self.level(0)?)?;
        let last = version.block.block_height.unwrap_or_default() + BLOCKHASH_BLOCKS;
        let value = json!({ "blockhash": version.block.blockhash, "lastValidBlockHeight": last });
        Ok(with_context(version.block.slot, value))
    }

    fn epoch_info(&self) -> Answered {
        let version = self.newest(self.level(0)?)?;
        let slot = version.block.slot;
        Ok(json!({
            "absoluteSlot": slot,
            "blockHeight": version.block.block_height.unwrap_or_default(),
            "epoch": slot / EPOCH_SLOTS,
            "slotIndex": slot % EPOCH_SLOTS,
            "slotsInEpoch": EPOCH_SLOTS,
            "transactionCount": null,
        }))
    }

    fn multiple_accounts(&self) -> Answered {
        let Some(keys) = self.params.get(0).and_then(Value::as_array) else {
            return error(INVALID_PARAMS, "Invalid params: missing field `pubkeys`");
        };
        if keys.len() > MAX_ACCOUNTS {
            return error(INVALID_PARAMS, format!("Too many inputs provided; max {MAX_ACCOUNTS}"));
        }
        let (tip, slot) = self.tip(self.level(1)?)?;
        let slice = self.config(1).and_then(|config| config.get("dataSlice")).cloned();
        let account = |key: &Value| {
            let text = key.as_str().unwrap_or_default();
            let invalid = || RpcError { code: INVALID_PARAMS, message: "Invalid param: Invalid".to_owned() };
            let key = crate::ledger::hash(text).ok_or_else(invalid)?;
            Ok(self.last_write(tip, &key).map(|account| account_json(&account, slice.as_ref())))
        };
        let accounts = keys.iter().map(account).collect::<Result<Vec<_>, _>>()?;
        Ok(with_context(slot.slot, accounts.into()))
    }

    fn last_write(&self, tip: u64, key: &[u8]) -> Option<SubscribeUpdateAccountInfo> {
        let positions = (tip.saturating_sub(ACCOUNT_SLOTS)..=tip).rev();
        let slots = positions.filter_map(|position| self.rpc.shared.ledger.at(position));
        slots.filter_map(|slot| slot.canonical().cloned()).find_map(|version| {
            let written = version.block.accounts.iter().filter(|account| account.pubkey == key);
            written.max_by_key(|account| account.write_version).cloned()
        })
    }

    /// A slot that the node can tell something about, canonical or skipped.
    fn landed(&self, slot: u64, level: Level, method: &'static str) -> Result<Arc<LedgerSlot>, RpcError> {
        let first = self.rpc.first_slot();
        let (tip, newest) = self.tip(level)?;
        if slot > newest.slot {
            return error(BLOCK_NOT_AVAILABLE, format!("Block not available for slot {slot}"));
        }
        if slot < first {
            let text =
                format!("Block {slot} cleaned up, does not exist on node. First available block: {first}");
            return error(BLOCK_CLEANED_UP, text);
        }
        let position = self.rpc.shared.ledger.position_from(slot);
        let archived = tip.saturating_sub(position) > NODE_SLOTS;
        let found = self.rpc.shared.ledger.slot(slot).filter(|found| found.canonical().is_some());
        let Some(found) = found else { return skipped(slot, archived) };
        match self.rpc.lie(method, slot) {
            Some(BLOCK_NOT_AVAILABLE) => {
                error(BLOCK_NOT_AVAILABLE, format!("Block not available for slot {slot}"))
            }
            Some(code) => skipped(slot, code == LONG_TERM_SLOT_SKIPPED),
            None => Ok(found),
        }
    }

    /// The newest canonical slot at a level.
    fn tip(&self, level: Level) -> Result<(u64, Arc<LedgerSlot>), RpcError> {
        let reached = self.rpc.shared.timeline.reached(self.now, level);
        let at = |position| {
            let slot = self.rpc.shared.ledger.at(position)?;
            slot.canonical().is_some().then_some((position, slot))
        };
        let found = reached.and_then(|reached| (0..=reached).rev().find_map(at));
        found.map_or_else(|| error(BLOCK_NOT_AVAILABLE, "Block not available for slot 0"), Ok)
    }

    fn newest(&self, level: Level) -> Result<Arc<Version>, RpcError> {
        let (_, slot) = self.tip(level)?;
        slot.canonical().cloned().map_or_else(|| skipped(slot.slot, false), Ok)
    }

    fn config(&self, place: usize) -> Option<&Value> {
        self.params.get(place).filter(|value| value.is_object())
    }

    fn number(&self, place: usize) -> Result<u64, RpcError> {
        let number = self.params.get(place).and_then(Value::as_u64);
        number.map_or_else(|| error(INVALID_PARAMS, "Invalid params: expected u64"), Ok)
    }

    fn level(&self, place: usize) -> Result<Level, RpcError> {
        match self.config(place).and_then(|config| config.get("commitment")).and_then(Value::as_str) {
            None | Some("finalized") => Ok(Level::Finalized),
            Some("confirmed") => Ok(Level::Confirmed),
            Some("processed") => Ok(Level::Processed),
            Some(other) => error(INVALID_PARAMS, format!("Invalid params: unknown variant `{other}`")),
        }
    }

    fn block_level(&self, place: usize) -> Result<Level, RpcError> {
        match self.level(place)? {
            Level::Processed => error(INVALID_PARAMS, "Method does not support commitment below `confirmed`"),
            level => Ok(level),
        }
    }

    fn block_options(&self) -> Result<BlockOptions, RpcError> {
        let text = |key| self.config(1).and_then(|config| config.get(key)).and_then(Value::as_str);
        let plain = self.params.get(1).and_then(Value::as_str);
        let encoding = match plain.or_else(|| text("encoding")).unwrap_or("json") {
            "json" => Encoding::Json,
            "base64" => Encoding::Base64,
            "base58" => Encoding::Base58,
            other => {
                return error(INVALID_PARAMS, format!("Invalid params: encoding `{other}` is not served"));
            }
        };
        let details = match text("transactionDetails").unwrap_or("full") {
            "full" => Details::Full,
            "signatures" => Details::Signatures,
            "none" => Details::None,
            other => {
                return error(
                    INVALID_PARAMS,
                    format!("Invalid params: transactionDetails `{other}` is not served"),
                );
            }
        };
        let given = |key| self.config(1).and_then(|config| config.get(key));
        let max_version = given("maxSupportedTransactionVersion").and_then(Value::as_u64);
        Ok(BlockOptions {
            encoding,
            details,
            rewards: given("rewards").and_then(Value::as_bool).unwrap_or(true),
            max_version: max_version.map(|version| u8::try_from(version).unwrap_or(u8::MAX)),
        })
    }
}

fn skipped<T>(slot: u64, archived: bool) -> Result<T, RpcError> {
    if archived {
        return error(
            LONG_TERM_SLOT_SKIPPED,
            format!("Slot {slot} was skipped, or missing in long-term storage"),
        );
    }
    error(SLOT_SKIPPED, format!("Slot {slot} was skipped, or missing due to ledger jump to recent snapshot"))
}

fn with_context(slot: u64, value: Value) -> Value {
    json!({ "context": { "slot": slot, "apiVersion": VERSION }, "value": value })
}

fn account_json(account: &SubscribeUpdateAccountInfo, slice: Option<&Value>) -> Value {
    let bound = |key: &str| slice.and_then(|slice| slice.get(key)).and_then(Value::as_u64);
    let start = (bound("offset").unwrap_or(0) as usize).min(account.data.len());
    let end = bound("length").map_or(account.data.len(), |length| start.saturating_add(length as usize));
    let data = &account.data[start..end.min(account.data.len())];
    json!({
        "data": [STANDARD.encode(data), "base64"],
        "executable": account.executable,
        "lamports": account.lamports,
        "owner": bs58::encode(&account.owner).into_string(),
        "rentEpoch": account.rent_epoch,
        "space": account.data.len(),
    })
}
