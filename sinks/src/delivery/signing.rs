//! Signatures of messages, as [Standard Webhooks](https://www.standardwebhooks.com) has them: `v1`, HMAC-SHA256 over
//! `{id}.{timestamp}.{body}`, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use sluice_config::secret::Secret;

/// What a secret's text begins with.
const SECRET_PREFIX: &str = "whsec_";
/// The sizes that the specification allows.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a text is not a signing secret. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// It does not begin as it has to.
    #[error("it does not begin with `{SECRET_PREFIX}`")]
    Prefix,
    /// What follows is not base64.
    #[error("what follows `{SECRET_PREFIX}` is not base64")]
    Base64,
    /// It is too short to be safe, or too long.
    #[error("it holds {0} bytes, and has to hold 24 to 64")]
    Length(usize),
}

/// Signs messages with one secret, or with several while they are rotated.
#[derive(Clone)]
pub(crate) struct Signer {
    keys: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// A signer for `secrets`; one without secrets signs nothing.
    ///
    /// # Errors
    /// The position of a secret that is none, and why.
    pub(crate) fn try_new(secrets: &[Secret]) -> Result<Self, (usize, SecretError)> {
        let key =
            |(position, secret): (usize, &Secret)| key(secret.expose()).map_err(|error| (position, error));
        Ok(Self { keys: secrets.iter().enumerate().map(key).collect::<Result<_, _>>()? })
    }

    /// The value of `webhook-signature`: a signature for each secret; `None` without secrets.
    pub(crate) fn sign(&self, id: &str, timestamp_seconds: u64, body: &[u8]) -> Option<String> {
        let head = format!("{id}.{timestamp_seconds}.");
        let signature = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            mac.update(head.as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        let signatures: Vec<_> = self.keys.iter().map(signature).collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

fn key(text: &str) -> Result<Hmac<Sha256>, SecretError> {
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
    if !SECRET_BYTES.contains(&bytes.len()) {
        return Err(SecretError::Length(bytes.len()));
    }
    Hmac::new_from_slice(&bytes).map_err(|_| SecretError::Length(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_specification() {
        // The example of the Standard Webhooks reference libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signer = Signer::try_new(&[secret]).expect("a valid secret");
        let signature =
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn each_secret_signs_while_they_are_rotated() {
        let secret = |byte: u8| Secret::new(format!("whsec_{}", STANDARD.encode([byte; 32])));
        let both = Signer::try_new(&[secret(1), secret(2)]).expect("valid");
        let alone =
            |byte| Signer::try_new(&[secret(byte)]).expect("valid").sign("id", 1, b"{}").expect("signed");
        assert_eq!(both.sign("id", 1, b"{}"), Some(format!("{} {}", alone(1), alone(2))));
        assert_eq!(Signer::try_new(&[]).expect("nothing to be wrong").sign("id", 1, b"{}"), None);
    }

    #[test]
    fn a_secret_that_is_none_is_refused_without_its_text() {
        for (text, expected) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
            ("whsec_!!", SecretError::Base64),
            ("whsec_c2hvcnQ=", SecretError::Length(5)),
        ] {
            let (position, error) = Signer::try_new(&[Secret::new(text)]).err().expect("not a secret");
            assert_eq!((position, error), (0, expected));
            assert!(!error.to_string().contains("c2hvcnQ"));
        }
    }
}
