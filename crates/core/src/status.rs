//! The status of a conversion, and the words by which callers name it.

use crate::request::trim_blanks;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Bytes that a status word has at most.
pub const WORD_BYTES: usize = 64;

/// What a conversion is worth at present.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It counts.
    #[default]
    Approved,
    /// It may count later.
    Pending,
    /// It doesn't count.
    Rejected,
    /// It counted, and was taken back.
    Reversed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Approved,
        Self::Pending,
        Self::Rejected,
        Self::Reversed,
    ];

    /// The word that records, tables and answers use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Reversed => "reversed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The text is none of the four words.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status is approved, pending, rejected or reversed")]
pub struct StatusError;

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        Self::ALL
            .into_iter()
            .find(|status| status.word() == text)
            .ok_or(StatusError)
    }
}

/// What a caller said of the status: its word, and what that means here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// As sent, cut to [`WORD_BYTES`].
    pub word: String,
    /// `None` for a word that the map doesn't have.
    pub status: Option<Status>,
}

/// From callers' words to statuses: the common trackers' words and those of the configuration.
/// Words are compared without their case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWords(BTreeMap<String, Status>);

/// Why a configured word can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// It could never be sent.
    #[error("a status word must not be empty")]
    Empty,
    /// It is over [`WORD_BYTES`].
    #[error("the status word {0:?} is longer than {WORD_BYTES} bytes")]
    TooLong(String),
}

/// What the common trackers and networks send.
const COMMON: [(&str, Status); 40] = [
    ("1", Status::Approved),
    ("2", Status::Pending),
    ("3", Status::Rejected),
    ("4", Status::Reversed),
    ("approve", Status::Approved),
    ("approved", Status::Approved),
    ("accepted", Status::Approved),
    ("completed", Status::Approved),
    ("confirm", Status::Approved),
    ("confirmed", Status::Approved),
    ("conversion", Status::Approved),
    ("deposit", Status::Approved),
    ("ok", Status::Approved),
    ("paid", Status::Approved),
    ("payout", Status::Approved),
    ("purchase", Status::Approved),
    ("rebill", Status::Approved),
    ("sale", Status::Approved),
    ("success", Status::Approved),
    ("hold", Status::Pending),
    ("lead", Status::Pending),
    ("new", Status::Pending),
    ("on_hold", Status::Pending),
    ("pending", Status::Pending),
    ("processing", Status::Pending),
    ("registration", Status::Pending),
    ("waiting", Status::Pending),
    ("cancel", Status::Rejected),
    ("canceled", Status::Rejected),
    ("cancelled", Status::Rejected),
    ("decline", Status::Rejected),
    ("declined", Status::Rejected),
    ("reject", Status::Rejected),
    ("rejected", Status::Rejected),
    ("spam", Status::Rejected),
    ("trash", Status::Rejected),
    ("chargeback", Status::Reversed),
    ("refund", Status::Reversed),
    ("refunded", Status::Reversed),
    ("reversed", Status::Reversed),
];

impl Default for StatusWords {
    fn default() -> Self {
        Self(
            COMMON
                .iter()
                .map(|(word, status)| ((*word).to_owned(), *status))
                .collect(),
        )
    }
}

impl StatusWords {
    /// Adds a word, or gives one another meaning.
    ///
    /// # Errors
    ///
    /// [`WordError`].
    pub fn set(&mut self, word: &str, status: Status) -> Result<(), WordError> {
        let word = word.trim().to_lowercase();
        if word.is_empty() {
            return Err(WordError::Empty);
        }
        if word.len() > WORD_BYTES {
            return Err(WordError::TooLong(word));
        }
        self.0.insert(word, status);
        Ok(())
    }

    /// Understands a word as it was sent; invalid UTF-8 and NUL become U+FFFD.
    pub(crate) fn read(&self, sent: &[u8]) -> Said {
        let (word, cut) = crate::request::stored(trim_blanks(sent), WORD_BYTES);
        let status = (!cut)
            .then(|| self.0.get(&word.to_lowercase()).copied())
            .flatten();
        Said { word, status }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn words_are_themselves_and_what_trackers_call_them() {
        let words = StatusWords::default();
        for status in Status::ALL {
            assert_eq!(status.word().parse(), Ok(status));
            assert_eq!(words.read(status.word().as_bytes()).status, Some(status));
        }
        for (sent, status) in [
            ("lead", Status::Pending),
            (" SALE\n", Status::Approved),
            ("hold", Status::Pending),
            ("Trash", Status::Rejected),
            ("1", Status::Approved),
            ("2", Status::Pending),
            ("3", Status::Rejected),
            ("refund", Status::Reversed),
        ] {
            assert_eq!(words.read(sent.as_bytes()).status, Some(status), "{sent}");
        }
        assert_eq!(words.read(b"whatever").status, None);
        assert!("Approved".parse::<Status>().is_err());
    }

    #[test]
    fn words_can_be_added_and_changed() {
        let mut words = StatusWords::default();
        words.set(" LEAD ", Status::Approved).unwrap();
        words.set("dép", Status::Reversed).unwrap();
        assert_eq!(words.read(b"lead").status, Some(Status::Approved));
        assert_eq!(words.read("DÉP".as_bytes()).status, Some(Status::Reversed));
        assert_eq!(words.set(" ", Status::Approved), Err(WordError::Empty));
        let long = "x".repeat(WORD_BYTES + 1);
        let error = words.set(&long, Status::Approved).unwrap_err();
        assert!(error.to_string().contains("64 bytes"), "{error}");
    }

    #[test]
    fn what_is_too_long_is_cut_and_unknown() {
        let mut words = StatusWords::default();
        let longest = "x".repeat(WORD_BYTES);
        words.set(&longest, Status::Rejected).unwrap();
        let said = words.read(format!("{longest}y").as_bytes());
        assert_eq!((said.word, said.status), (longest, None));
        assert_eq!(words.read(b"a\0\xff").word, "a\u{fffd}\u{fffd}");
    }
}
