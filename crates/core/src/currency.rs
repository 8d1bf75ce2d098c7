//! The currency of a revenue: upper-cased, cut to three characters, USD where none was sent.
//!
//! Whether a code exists is not asked: the callers' page promises no more than this, and a
//! conversion isn't refused for a currency that this program hasn't heard of.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::request::trim_blanks;

/// Characters that a currency keeps.
const CHARACTERS: usize = 3;
/// UTF-8 bytes that they take at most.
const BYTES: usize = CHARACTERS * 4;

/// A normalized currency. Held inline, so a clone costs nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    /// Zero after `length`, so that comparing the bytes compares the texts.
    bytes: [u8; BYTES],
    length: u8,
}

impl Currency {
    pub const USD: Self = Self {
        bytes: *b"USD\0\0\0\0\0\0\0\0\0",
        length: 3,
    };

    /// Outer blanks off, ASCII letters upper-cased, cut to three characters; blank is USD. NUL,
    /// which not every store can hold, becomes U+FFFD.
    pub fn normalize(text: &str) -> Self {
        let mut currency = Self {
            bytes: [0; BYTES],
            length: 0,
        };
        let text = text.trim_matches(is_blank);
        for character in text.chars().take(CHARACTERS) {
            let character = if character == '\0' {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            };
            currency.push(character.to_ascii_uppercase());
        }
        // "AB CD" is cut to "AB ": without this, reading it back would give another currency.
        let kept = trim_blanks(&currency.bytes[..usize::from(currency.length)]).len();
        if kept == 0 {
            return Self::USD;
        }
        currency.truncate(kept);
        currency
    }

    pub fn as_str(&self) -> &str {
        // Whole characters are all that is ever written into it.
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    fn push(&mut self, character: char) {
        for &byte in character.encode_utf8(&mut [0; 4]).as_bytes() {
            self.bytes[usize::from(self.length)] = byte;
            self.length += 1;
        }
    }

    fn truncate(&mut self, kept: usize) {
        while usize::from(self.length) > kept {
            self.length -= 1;
            self.bytes[usize::from(self.length)] = 0;
        }
    }
}

fn is_blank(character: char) -> bool {
    u8::try_from(character).is_ok_and(crate::request::is_blank)
}

impl Default for Currency {
    fn default() -> Self {
        Self::USD
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Currency").field(&self.as_str()).finish()
    }
}

impl AsRef<str> for Currency {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CurrencyVisitor;

        impl Visitor<'_> for CurrencyVisitor {
            type Value = Currency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a currency")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Currency, E> {
                Ok(Currency::normalize(text))
            }
        }

        deserializer.deserialize_str(CurrencyVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn normalizes() {
        for (sent, kept) in [
            ("usd", "USD"),
            ("EUR", "EUR"),
            ("  eur\n", "EUR"),
            ("dollars", "DOL"),
            ("", "USD"),
            (" \t\u{b}", "USD"),
            ("u", "U"),
            ("ab cd", "AB"),
            ("a b", "A B"),
            ("€uro", "€UR"),
            ("éua", "éUA"),
            ("😀😀😀😀", "😀😀😀"),
            ("U\0D", "U\u{fffd}D"),
            ("{currency}", "{CU"),
        ] {
            let currency = Currency::normalize(sent);
            assert_eq!(currency.as_str(), kept, "{sent:?}");
            assert_eq!(currency.to_string(), kept);
            assert_eq!(Currency::normalize(kept), currency, "{sent:?} twice");
        }
        assert_eq!(Currency::default(), Currency::normalize("usd"));
    }

    #[test]
    fn is_a_string_in_records() {
        let euro = Currency::normalize("eur");
        assert_eq!(serde_json::to_string(&euro).unwrap(), r#""EUR""#);
        assert_eq!(serde_json::from_str::<Currency>(r#""EUR""#).unwrap(), euro);
        assert_eq!(
            serde_json::from_str::<Currency>(r#""eu\u0072""#).unwrap(),
            euro
        );
        assert!(serde_json::from_str::<Currency>("5").is_err());
    }
}
