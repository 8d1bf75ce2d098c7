//! The two identities of a postback: the click that it names, and the request that brought it.

use std::borrow::{Borrow, Cow};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::request::trim_blanks;

/// Bytes that a clickid may have.
pub const CLICK_ID_BYTES: usize = 255;

/// A click's id: opaque and case-sensitive, 1 to 255 bytes of UTF-8 without control characters
/// and without outer blanks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClickId(Box<str>);

/// Why bytes are not a clickid.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClickIdError {
    #[error("empty")]
    Empty,
    #[error("{bytes} bytes long, at most {CLICK_ID_BYTES} are allowed")]
    TooLong { bytes: usize },
    #[error("not valid UTF-8")]
    NotUtf8,
    #[error("a control character is in it")]
    ControlCharacter,
}

impl ClickId {
    /// Outer blanks (ASCII white space) are not part of the id.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClickIdError> {
        let bytes = trim_blanks(bytes);
        if bytes.is_empty() {
            return Err(ClickIdError::Empty);
        }
        if bytes.len() > CLICK_ID_BYTES {
            return Err(ClickIdError::TooLong { bytes: bytes.len() });
        }
        let text = str::from_utf8(bytes).map_err(|_| ClickIdError::NotUtf8)?;
        if text.chars().any(char::is_control) {
            return Err(ClickIdError::ControlCharacter);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for ClickId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Maps keyed by clickid can be asked with a `&str`.
impl Borrow<str> for ClickId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ClickId {
    type Err = ClickIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes())
    }
}

impl Serialize for ClickId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ClickId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(text.as_bytes())
            .map_err(|error| de::Error::custom(format_args!("clickid: {error}")))
    }
}

/// A request's id: the identity of a postback, minted by the ingress as a UUIDv7, so that ids
/// sort by the time of receipt. Any UUID is accepted when one is read: an id that was never
/// minted is simply unknown.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Uuid);

/// The text is not a UUID in its hyphenated form.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a request id")]
pub struct RequestIdError;

/// Characters of a hyphenated UUID.
const HYPHENATED: usize = uuid::fmt::Hyphenated::LENGTH;

impl RequestId {
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    pub fn as_uuid(self) -> Uuid {
        self.0
    }

    /// Only the hyphenated form: an id has one way of being written, apart from its case.
    pub fn parse(text: &str) -> Result<Self, RequestIdError> {
        if text.len() != HYPHENATED {
            return Err(RequestIdError);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| RequestIdError)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_hyphenated().encode_lower(&mut [0; HYPHENATED]))
    }
}

impl std::str::FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut [0; HYPHENATED]))
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_clickid_is_opaque() {
        for (sent, kept) in [
            ("abc", "abc"),
            (" \tABC\u{b}\r\n", "ABC"),
            ("a b", "a b"),
            ("é😀", "é😀"),
            ("\u{a0}x", "\u{a0}x"),
            ("null", "null"),
        ] {
            assert_eq!(ClickId::parse(sent.as_bytes()).unwrap().as_str(), kept);
        }
    }

    #[test]
    fn a_clickid_has_limits() {
        let longest = "x".repeat(CLICK_ID_BYTES);
        assert_eq!(
            ClickId::parse(longest.as_bytes()).unwrap().as_str(),
            longest
        );
        assert_eq!(
            ClickId::parse(format!("{longest}x").as_bytes()),
            Err(ClickIdError::TooLong { bytes: 256 })
        );
        assert_eq!(
            ClickId::parse("é".repeat(128).as_bytes()),
            Err(ClickIdError::TooLong { bytes: 256 })
        );
        assert_eq!(ClickId::parse(b" \n"), Err(ClickIdError::Empty));
        assert_eq!(ClickId::parse(b"a\xff"), Err(ClickIdError::NotUtf8));
        for text in ["a\0", "a\nb", "a\u{7f}b", "a\u{85}b"] {
            assert_eq!(
                ClickId::parse(text.as_bytes()),
                Err(ClickIdError::ControlCharacter)
            );
        }
    }

    #[test]
    fn a_clickid_is_validated_in_records() {
        let id = ClickId::parse("é\"".as_bytes()).unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"é\\\"\"");
        assert_eq!(serde_json::from_str::<ClickId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<ClickId>("\"\"").is_err());
        assert!(serde_json::from_str::<ClickId>(r#""a\u0000""#).is_err());
        assert!(serde_json::from_str::<ClickId>("5").is_err());
    }

    #[test]
    fn a_map_of_clickids_is_asked_with_text() {
        let id = ClickId::parse(b"abc").unwrap();
        assert_eq!(HashMap::from([(id, 1)]).get("abc"), Some(&1));
    }

    #[test]
    fn a_request_id_has_one_form() {
        let text = "01939b1e-7c5a-7d2f-8f6b-0123456789ab";
        let id = RequestId::parse(text).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(RequestId::parse(&text.to_uppercase()).unwrap(), id);
        assert_eq!(RequestId::from_uuid(id.as_uuid()), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
        assert_eq!(
            serde_json::from_str::<RequestId>(&format!("\"{text}\"")).unwrap(),
            id
        );
        for other in [
            "",
            "x",
            "01939b1e7c5a7d2f8f6b0123456789ab",
            "{01939b1e-7c5a-7d2f-8f6b-0123456789ab}",
        ] {
            assert_eq!(RequestId::parse(other), Err(RequestIdError), "{other}");
            assert!(serde_json::from_str::<RequestId>(&format!("\"{other}\"")).is_err());
        }
        assert!(RequestId::parse("01939b1e-7c5a-7d2f-8f6b-0123456789a€").is_err());
    }
}
