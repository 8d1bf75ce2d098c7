//! What postbacks of a campaign are signed with.

use std::fmt;

/// A secret that an advertiser's server shares. Neither `Debug` nor errors show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostbackSecret(String);

/// Why a text can't be a secret.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 16 to 255 printable ASCII characters without blanks")]
pub struct SecretError;

impl PostbackSecret {
    /// Takes a text: callers paste it into configuration files, so only what survives that.
    ///
    /// # Errors
    ///
    /// [`SecretError`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if (16..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SecretError)
        }
    }

    /// The text itself. Hand it to what needs it and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PostbackSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_printable_and_not_shown() {
        let secret = PostbackSecret::parse("0123456789abcdef").unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        for text in ["", "short", "0123456789 abcdef", "0123456789abcdefé"] {
            assert_eq!(PostbackSecret::parse(text), Err(SecretError));
        }
        assert!(PostbackSecret::parse(&"x".repeat(256)).is_err());
    }
}
