//! Held against serde's own bincode of types as ledgers had them.

use proptest::prelude::*;
use serde::Serialize;
use solana_transaction_error::TransactionError;

use super::*;

#[derive(Serialize)]
struct Amount {
    ui_amount: f64,
    decimals: u8,
    amount: String,
}

#[derive(Serialize)]
struct AmountWithText {
    ui_amount: Option<f64>,
    decimals: u8,
    amount: String,
    ui_amount_string: String,
}

/// A token balance of either kind of amount, with what stands behind it.
#[derive(Serialize)]
struct Token<A, R> {
    account_index: u8,
    mint: String,
    amount: A,
    rest: R,
}

/// An instruction of one account and two bytes of data, which stand behind lengths of one byte.
type Instruction = (u8, (u8, u8), (u8, u8, u8));

#[derive(Serialize)]
struct Inner {
    index: u8,
    instructions: Vec<Instruction>,
}

#[derive(Serialize)]
struct Oldest {
    status: Result<(), TransactionError>,
    fee: u64,
    pre_balances: Vec<u64>,
    post_balances: Vec<u64>,
}

/// What was added, in the order in which it was.
type Later<T> = (Option<Vec<Inner>>, Option<Vec<String>>, Option<Vec<T>>, Option<Vec<T>>, Option<Vec<()>>);

fn oldest(status: Result<(), TransactionError>) -> Oldest {
    Oldest { status, fee: 5_000, pre_balances: vec![10, 1], post_balances: vec![4, 2] }
}

fn inner() -> Vec<Inner> {
    vec![Inner { index: 1, instructions: vec![(3, (1, 7), (2, 8, 9))] }]
}

fn logs() -> Vec<String> {
    vec!["Program log: hello".to_owned(), "consumed 5 of 10 compute units".to_owned()]
}

fn with<T: Serialize>(tokens: Option<Vec<T>>, behind: Option<Vec<T>>) -> Vec<u8> {
    let later: Later<T> = (Some(inner()), Some(logs()), tokens, behind, Some(Vec::new()));
    bincode::serialize(&(oldest(Ok(())), later)).expect("in memory")
}

fn mint() -> String {
    "So11111111111111111111111111111111111111112".to_owned()
}

fn plain() -> Amount {
    Amount { ui_amount: 1.5, decimals: 1, amount: "15".to_owned() }
}

#[test]
fn the_oldest_outcomes_have_balances_and_nothing_else() {
    let bytes = bincode::serialize(&oldest(Ok(()))).expect("in memory");
    assert!(is_outcome(&bytes));
    let read = outcome(&bytes).expect("an outcome");
    assert_eq!((read.err, read.fee), (None, 5_000));
    assert_eq!((read.pre_balances, read.post_balances), (vec![10, 1], vec![4, 2]));
    assert!(read.inner_instructions_none && read.log_messages_none && read.return_data_none);
}

#[test]
fn errors_are_those_that_streams_send() {
    use solana_transaction_error::TransactionError as E;
    for error in [E::AccountInUse, E::InsufficientFundsForFee, E::BlockhashNotFound] {
        let sent = bincode::serialize(&error).expect("in memory");
        let bytes = bincode::serialize(&oldest(Err(error))).expect("in memory");
        assert_eq!(outcome(&bytes).expect("an outcome").err.expect("it failed").err, sent);
    }
    // An instruction's error, with a number and with the text that one of them had.
    let numbered =
        [8_u32.to_le_bytes().to_vec(), vec![2], 25_u32.to_le_bytes().to_vec(), 77_u32.to_le_bytes().to_vec()];
    let head = [8_u32.to_le_bytes().to_vec(), vec![2], 44_u32.to_le_bytes().to_vec()].concat();
    let spoken = [head.clone(), bincode::serialize("Unknown").expect("in memory")].concat();
    for (stored, sent) in [(numbered.concat(), numbered.concat()), (spoken, head)] {
        let rest = bincode::serialize(&(5_000_u64, vec![10_u64], vec![4_u64])).expect("in memory");
        let bytes = [1_u32.to_le_bytes().to_vec(), stored, rest].concat();
        let read = outcome(&bytes).expect("an outcome");
        assert_eq!((read.err.expect("it failed").err, read.fee), (sent, 5_000));
    }
}

#[test]
fn all_forms_of_token_balances_are_told_apart() {
    let token = |account_index| Token { account_index, mint: mint(), amount: plain(), rest: () };
    let owned =
        |account_index| Token { account_index, mint: mint(), amount: plain(), rest: "owner".to_owned() };
    let full = |account_index| Token {
        account_index,
        mint: mint(),
        amount: plain(),
        rest: ("owner".to_owned(), "program".to_owned()),
    };
    let text = |account_index| Token {
        account_index,
        mint: mint(),
        amount: AmountWithText {
            ui_amount: Some(1.5),
            decimals: 1,
            amount: "15".to_owned(),
            ui_amount_string: "1.5".to_owned(),
        },
        rest: (),
    };
    let forms = [
        (with(Some(vec![token(1), token(2)]), Some(vec![token(3)])), "", ""),
        (with(Some(vec![owned(1), owned(2)]), Some(vec![owned(3)])), "owner", ""),
        (with(Some(vec![full(1), full(2)]), Some(vec![full(3)])), "owner", "program"),
        (with(Some(vec![text(1), text(2)]), Some(vec![text(3)])), "", ""),
    ];
    for (bytes, owner, program) in forms {
        let read = outcome(&bytes).expect("an outcome");
        let all: Vec<_> = read.pre_token_balances.iter().chain(&read.post_token_balances).collect();
        assert_eq!(all.iter().map(|token| token.account_index).collect::<Vec<_>>(), [1, 2, 3]);
        for token in all {
            assert_eq!(
                (token.mint.as_str(), token.owner.as_str(), token.program_id.as_str()),
                (mint().as_str(), owner, program)
            );
            let amount = token.ui_token_amount.as_ref().expect("an amount");
            assert_eq!((amount.amount.as_str(), amount.decimals), ("15", 1));
        }
        assert_eq!(read.log_messages, logs());
        let instruction = &read.inner_instructions[0].instructions[0];
        assert_eq!(
            (instruction.program_id_index, &instruction.accounts, &instruction.data),
            (3, &vec![7], &vec![8, 9])
        );
    }
}

#[test]
fn a_separator_that_no_length_counts_is_passed_over() {
    let mut bytes = bincode::serialize(&(oldest(Ok(())), Some(inner()), Some(logs()))).expect("in memory");
    bytes.extend(b";\0\0");
    assert_eq!(outcome(&bytes).expect("an outcome").log_messages, logs());
}

#[test]
fn all_forms_of_rewards_are_told_apart() {
    let key = mint;
    let shortest = bincode::serialize(&vec![(key(), -5_i64), (key(), 7)]).expect("in memory");
    let longer = bincode::serialize(&vec![(key(), -5_i64, 100_u64), (key(), 7, 9)]).expect("in memory");
    let typed = bincode::serialize(&vec![(key(), -5_i64, 100_u64, Some(3_u32)), (key(), 7, 9, None)]);
    let full = bincode::serialize(&vec![
        (key(), -5_i64, 100_u64, Some(3_u32), Some(10_u8)),
        (key(), 7, 9, None, None),
    ]);
    let expected = [
        (shortest, 0, 0, ""),
        (longer, 100, 0, ""),
        (typed.expect("in memory"), 100, 4, ""),
        (full.expect("in memory"), 100, 4, "10"),
    ];
    for (bytes, balance, kind, commission) in expected {
        let read = rewards(&bytes).expect("rewards").rewards;
        assert_eq!(read.len(), 2);
        let first = &read[0];
        assert_eq!((first.lamports, first.post_balance, first.reward_type), (-5, balance, kind));
        assert_eq!((first.pubkey.as_str(), first.commission.as_str()), (mint().as_str(), commission));
    }
    assert_eq!(rewards(&0_u64.to_le_bytes()).expect("none").rewards, []);
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_outcome_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..300) {
        let _ = (outcome(&bytes), rewards(&bytes));
        let token = Token { account_index: 1, mint: mint(), amount: plain(), rest: () };
        let mut real = with(Some(vec![token]), None);
        let at = at % real.len();
        real[at] ^= bytes.first().copied().unwrap_or(1);
        let _ = outcome(&real);
        let _ = outcome(&real[..at]);
    }
}
