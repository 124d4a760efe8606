//! Transaction errors as one canonical JSON text, whether they came as bincode or as JSON.

use std::collections::HashMap;

use solana_transaction_error::TransactionError;

/// Distinct errors that are kept; the codes of custom errors are the program's to choose, so there is no end to them.
const CACHED_ERRORS: usize = 4_096;

/// The texts of errors seen lately, by their bincode.
#[derive(Default)]
pub(crate) struct ErrorTexts {
    texts: HashMap<Vec<u8>, String>,
}

impl ErrorTexts {
    /// The JSON text of a bincode `TransactionError`.
    pub(crate) fn text(&mut self, bincode: &[u8]) -> &str {
        if !self.texts.contains_key(bincode) {
            if self.texts.len() >= CACHED_ERRORS {
                self.texts.clear();
            }
            self.texts.insert(bincode.to_vec(), json(bincode));
        }
        self.texts.get(bincode).map_or("", String::as_str)
    }
}

/// RPC's JSON of the error; an error that is newer than this version is kept as the hex of its bytes.
fn json(bincode: &[u8]) -> String {
    let error = bincode::deserialize::<TransactionError>(bincode).ok();
    error.and_then(|error| serde_json::to_string(&error).ok()).unwrap_or_else(|| {
        let hex: String = bincode.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{\"Unknown\":\"{hex}\"}}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_json_of_rpc() {
        let mut texts = ErrorTexts::default();
        assert_eq!(
            texts.text(&[8, 0, 0, 0, 3, 25, 0, 0, 0, 1, 0, 0, 0]),
            r#"{"InstructionError":[3,{"Custom":1}]}"#
        );
        assert_eq!(texts.text(&[7, 0, 0, 0]), r#""BlockhashNotFound""#);
    }

    #[test]
    fn an_unknown_error_is_kept_and_never_a_failure() {
        let mut texts = ErrorTexts::default();
        assert_eq!(texts.text(&[255, 1]), r#"{"Unknown":"ff01"}"#);
        assert_eq!(texts.text(&[]), r#"{"Unknown":""}"#);
        for number in 0..2 * CACHED_ERRORS as u32 {
            let text =
                texts.text(&[&[8, 0, 0, 0, 0, 25, 0, 0, 0][..], &number.to_le_bytes()].concat()).to_owned();
            assert!(text.contains(&number.to_string()));
        }
        assert!(texts.texts.len() <= CACHED_ERRORS);
    }
}
