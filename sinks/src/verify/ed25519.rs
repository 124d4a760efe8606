//! Ed25519 by the rule that validators have (`verify_strict`), many signatures at a time.
//!
//! Checking signatures together costs half of checking them alone, but the equation of a batch lets points of small order
//! pass, with which a signature holds for any message. Keys and signatures with such points are refused before that; a
//! batch that fails is checked one by one. What a batch may still let pass, and a validator not, is a signature that the
//! holder of the key made with a point of mixed order: who signed is told right all the same.

use ed25519_dalek::{Signature, VerifyingKey, verify_batch};

/// The y coordinates of all points of small order, as they can be written: the numbers 0 and 1 also as themselves plus
/// the field's order. The sign of x, the highest bit, is not part of it.
const SMALL_ORDER: [[u8; 32]; 7] = [
    edge(0, 0),
    edge(1, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    edge(0xec, 0xff),
    edge(0xed, 0xff),
    edge(0xee, 0xff),
];

/// A number of 255 bits with this lowest byte, and one of its ends otherwise.
const fn edge(lowest: u8, others: u8) -> [u8; 32] {
    let mut bytes = [others; 32];
    bytes[0] = lowest;
    bytes[31] &= 0x7f;
    bytes
}

/// That a key signed a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) message: &'a [u8],
    pub(super) signature: &'a [u8; 64],
    pub(super) key: &'a [u8; 32],
}

impl Claim<'_> {
    /// Whether its key, or the point in its signature, is of small order.
    fn is_weak(&self) -> bool {
        self.signature.first_chunk().is_none_or(is_small_order) || is_small_order(self.key)
    }

    fn holds(&self) -> bool {
        let signature = Signature::from_bytes(self.signature);
        VerifyingKey::from_bytes(self.key)
            .is_ok_and(|key| key.verify_strict(self.message, &signature).is_ok())
    }
}

fn is_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    y[31] &= 0x7f;
    SMALL_ORDER.contains(&y)
}

/// The positions of the claims that are not true, in no order.
pub(super) fn refused(claims: &[Claim<'_>]) -> Vec<usize> {
    let (mut refused, sound): (Vec<usize>, Vec<usize>) =
        (0..claims.len()).partition(|&position| claims[position].is_weak());
    if hold_together(sound.iter().map(|&position| &claims[position])).is_none() {
        refused.extend(sound.into_iter().filter(|&position| !claims[position].holds()));
    }
    refused
}

/// Whether all hold; `None` if one may not.
fn hold_together<'a>(claims: impl Iterator<Item = &'a Claim<'a>> + Clone) -> Option<()> {
    let messages: Vec<&[u8]> = claims.clone().map(|claim| claim.message).collect();
    let signatures: Vec<Signature> =
        claims.clone().map(|claim| Signature::from_bytes(claim.signature)).collect();
    let keys: Option<Vec<VerifyingKey>> =
        claims.map(|claim| VerifyingKey::from_bytes(claim.key).ok()).collect();
    verify_batch(&messages, &signatures, &keys?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    /// Every way to write a point of small order.
    fn weak_points() -> Vec<[u8; 32]> {
        let with_sign = |mut y: [u8; 32]| {
            y[31] |= 0x80;
            y
        };
        SMALL_ORDER.into_iter().flat_map(|y| [y, with_sign(y)]).collect()
    }

    /// Signatures that hold for about any message under the key `point`, and with the point `point`.
    fn forged(point: [u8; 32]) -> Vec<([u8; 64], [u8; 32])> {
        let signature = |r: [u8; 32]| {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&r);
            signature
        };
        let honest = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let of_key = weak_points().into_iter().map(|r| (signature(r), point));
        of_key.chain([(signature(point), honest)]).collect()
    }

    #[test]
    fn the_points_are_all_of_small_order_and_no_honest_one_is() {
        for point in weak_points() {
            assert!(is_small_order(&point));
            assert!(VerifyingKey::from_bytes(&point).is_ok_and(|key| key.is_weak()), "{point:x?}");
        }
        for seed in 0..100 {
            let key = SigningKey::from_bytes(&[seed; 32]).verifying_key();
            assert!(!is_small_order(key.as_bytes()));
        }
    }

    #[test]
    fn forgeries_with_points_of_small_order_are_refused_as_validators_refuse_them() {
        let message = b"anything at all";
        let honest = SigningKey::from_bytes(&[9; 32]);
        let (signature, key) = (honest.sign(message).to_bytes(), honest.verifying_key().to_bytes());
        let true_claim = Claim { message, signature: &signature, key: &key };
        for (signature, key) in weak_points().into_iter().flat_map(forged) {
            let forgery = Claim { message, signature: &signature, key: &key };
            assert!(!forgery.holds(), "{forgery:x?}");
            assert_eq!(refused(&[true_claim, forgery, true_claim]), [1], "{forgery:x?}");
        }
        assert_eq!(refused(&[true_claim; 3]), [] as [usize; 0]);
        assert_eq!(refused(&[]), [] as [usize; 0]);
    }

    #[test]
    fn a_wrong_signature_is_told_from_the_right_ones_of_its_batch() {
        let signers: Vec<SigningKey> = (0..5).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
        let keys: Vec<[u8; 32]> = signers.iter().map(|signer| signer.verifying_key().to_bytes()).collect();
        let signatures: Vec<[u8; 64]> = signers.iter().map(|signer| signer.sign(b"one").to_bytes()).collect();
        let claim = |at: usize| {
            let message: &[u8] = if at == 3 { b"two" } else { b"one" };
            Claim { message, signature: &signatures[at], key: &keys[at] }
        };
        let claims: Vec<Claim<'_>> = (0..5).map(claim).collect();
        assert_eq!(refused(&claims), [3]);
    }
}
