//! The token of a server that asks for one: kept as its digest.

use sha2::{Digest, Sha256};
use sluice_config::secret::Secret;

/// The digest of the token that clients have to send.
#[derive(Clone)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// The digest of `token`.
    pub(super) fn new(token: &Secret) -> Self {
        Self(Sha256::digest(token.expose()).into())
    }

    /// Whether `sent` is the token. Takes as long whatever differs: digests are compared, and all of their bytes.
    pub(super) fn matches(&self, sent: &[u8]) -> bool {
        let sent: [u8; 32] = Sha256::digest(sent).into();
        let difference = self.0.iter().zip(&sent).fold(0, |all, (one, other)| all | (one ^ other));
        std::hint::black_box(difference) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::new(&Secret::new("0123456789abcdef"));
        assert!(token.matches(b"0123456789abcdef"));
        assert!(
            !token.matches(b"0123456789abcde") && !token.matches(b"") && !token.matches(b"0123456789abcdeF")
        );
    }
}
