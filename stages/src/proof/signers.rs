//! Where one transaction ends and the next begins, which the chain of hashes can't tell.
//!
//! The Merkle tree of an entry is flat over all signatures, so whoever delivers them says which belong together. Taken at
//! their word, a liar could hide a transaction by giving its signature to the one before. So a transaction has to have the
//! number of signatures that its message asks for; and as the message is the liar's, too, where there are several each
//! has to sign it, by the rule that validators have (`verify_strict`). A signature was made for one message, so that of a
//! hidden transaction never holds.
//!
//! The other way round, several transactions made of one with several signatures, takes messages that nobody signed; only
//! a check of all signatures sees it (`sluice verify --signatures`).
//!
//! Nearly all transactions have one signature and cost nothing: in the three real blocks of the tests, of 602, 1,445 and 208
//! transactions, 9 have more, with 27 signatures together.

use ed25519_dalek::{Signature as Ed25519, VerifyingKey};

use super::chain::Signature;
use crate::transaction::Transaction;
use crate::transaction::message::Message;

/// What a transaction's message says about its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// Signatures that it asks for.
    pub required: u32,
    /// What they sign, if there are several and it is at hand.
    pub signed: Option<Signed>,
}

/// A message, and the keys that have to have signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    message: Vec<u8>,
    keys: Vec<[u8; 32]>,
}

impl Signers {
    /// Those of a transaction that was read from `body`.
    pub fn of(transaction: &Transaction, body: &[u8]) -> Self {
        let several = transaction.signatures.len() > 1;
        Self {
            required: transaction.num_required_signatures,
            signed: several.then(|| Signed::of(transaction, body)),
        }
    }

    /// As far as their number tells, all that is known where the message is not at hand.
    pub fn counted(required: u32) -> Self {
        Self { required, signed: None }
    }
}

impl Signed {
    /// Without a key nothing holds, which is right for a message that nobody can have signed.
    fn of(transaction: &Transaction, body: &[u8]) -> Self {
        let Some(message) = Message::of(transaction, body) else {
            return Self { message: Vec::new(), keys: Vec::new() };
        };
        let keys = message.account_keys.iter().take(transaction.signatures.len()).copied().collect();
        Self { message: message.to_bytes(), keys }
    }

    /// Whether each signature was made by its signer for this message.
    pub(super) fn holds(&self, signatures: &[Signature]) -> bool {
        let holds = |(key, signature): (&[u8; 32], &Signature)| {
            let key = VerifyingKey::from_bytes(key);
            key.is_ok_and(|key| key.verify_strict(&self.message, &Ed25519::from_bytes(signature)).is_ok())
        };
        self.keys.len() == signatures.len() && self.keys.iter().zip(signatures).all(holds)
    }
}
