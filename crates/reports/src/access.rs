//! Who may ask: admin tokens. A token is 32 random bytes behind `pst_`; the store keeps its digest
//! alone, so nobody who reads the store can use it.

use crate::routes::{Answer, Reports};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use postern_runtime::http::bearer;
use postern_runtime::telemetry::chain;
use postern_store::TokenRole;
use sha2::{Digest as _, Sha256};

/// What every token begins with: people and scanners of leaked secrets know it by that.
const PREFIX: &str = "pst_";

/// A token made of random bytes.
#[must_use]
pub fn token(random: &[u8; 32]) -> String {
    format!("{PREFIX}{}", hex::encode(random))
}

/// What the store keeps of a token.
#[must_use]
pub fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

impl Reports {
    /// Lets an admin pass.
    pub(crate) async fn admit_admin(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let refused = || {
            Answer::error(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Send an admin token as Authorization: Bearer; postern token create --admin makes \
                 one",
            )
        };
        // What is no token costs no look into the store.
        let given = bearer(headers)
            .filter(|token| token.starts_with(PREFIX))
            .ok_or_else(refused)?;
        match self.store.token_role(&digest(given)).await {
            Ok(Some(TokenRole::Admin)) => Ok(()),
            Ok(None) => Err(refused()),
            Err(error) => {
                tracing::error!(why = chain(&error), "a token could not be looked up");
                Err(Answer::unavailable())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_256_random_bits_and_its_digest_tells_none() {
        let one = token(&[7; 32]);
        assert_eq!(one.len(), PREFIX.len() + 64);
        assert!(one.starts_with("pst_0707"));
        assert_eq!(digest(&one).len(), 64);
        assert_ne!(digest(&one), digest(&token(&[8; 32])));
    }
}
