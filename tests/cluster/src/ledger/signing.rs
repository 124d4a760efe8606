//! Signatures of made-up transactions, where a client can be expected to check them: on transactions with several.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use yellowstone_grpc_proto::prelude::{SubscribeUpdateTransactionInfo, Transaction};

use super::transaction::signed_bytes;
use crate::random::digest;

/// Whether a transaction has several signatures.
pub(crate) fn has_several(info: &SubscribeUpdateTransactionInfo) -> bool {
    info.transaction.as_ref().is_some_and(|transaction| transaction.signatures.len() > 1)
}

/// Signs a transaction anew, under a name that makes its signatures its own, with keys that are made up.
pub(crate) fn sign(info: &mut SubscribeUpdateTransactionInfo, name: &[u64]) {
    let Some(transaction) = &mut info.transaction else { return };
    let Some(message) = &mut transaction.message else { return };
    let keys: Vec<SigningKey> = (0..transaction.signatures.len() as u64)
        .map(|signer| SigningKey::from_bytes(&digest("signer", &[signer])))
        .collect();
    for (account, key) in message.account_keys.iter_mut().zip(&keys) {
        *account = key.verifying_key().to_bytes().to_vec();
    }
    message.recent_blockhash = digest("recent blockhash", name).to_vec();
    let bytes = signed_bytes(message);
    for (signature, key) in transaction.signatures.iter_mut().zip(&keys) {
        *signature = key.sign(&bytes).to_bytes().to_vec();
    }
    info.signature = transaction.signatures.first().cloned().unwrap_or_default();
}

/// Whether the signatures are as many as the message asks for and, if several, all of its signers'.
pub(crate) fn is_signed(transaction: &Transaction) -> bool {
    let Some(message) = &transaction.message else { return false };
    let required = message.header.unwrap_or_default().num_required_signatures as usize;
    if transaction.signatures.len() != required {
        return false;
    }
    let bytes = signed_bytes(message);
    let holds = |(signature, key): (&Vec<u8>, &Vec<u8>)| {
        let key = key.as_slice().try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
        let signature = Signature::from_slice(signature).ok();
        key.zip(signature).is_some_and(|(key, signature)| key.verify_strict(&bytes, &signature).is_ok())
    };
    required < 2 || transaction.signatures.iter().zip(&message.account_keys).all(holds)
}
