//! What stands on the topics. Each record is JSON with a version `v`; the schemas are in
//! docs/schemas. Unknown fields are ignored; a version newer than [`VERSION`] is not guessed at.

pub mod campaign;
pub mod click;
pub mod conversion;
pub mod postback;
pub mod reject;
pub mod verdict;

use serde::Deserialize;

/// The version of every record that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// Header of a postback record: its request id.
pub const HEADER_REQUEST_ID: &str = "postern-request-id";
/// Header of a postback record: where its verdict goes, as `PARTITION/INSTANCE`.
pub const HEADER_REPLY_TO: &str = "postern-reply-to";

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record can never be read; it goes to the rejects.
    #[error("malformed record: {0}")]
    Malformed(String),
    /// A later release wrote it. Reading on would lose it, so the partition stops.
    #[error("record version {found} is newer than {VERSION}, the newest this release reads")]
    NewerVersion {
        /// The version that the record declares.
        found: u32,
    },
}

impl DecodeError {
    pub(crate) fn malformed(reason: impl std::fmt::Display) -> Self {
        Self::Malformed(reason.to_string())
    }
}

/// Looks at the version first, so that a newer record with another shape counts as newer and not
/// as malformed.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    match serde_json::from_slice::<T>(bytes) {
        Ok(record) => {
            // The common case pays for one parse: `T` has checked `v` by `version::check`.
            Ok(record)
        }
        Err(error) => match serde_json::from_slice::<Versioned>(bytes) {
            Ok(Versioned { v }) if v > VERSION => Err(DecodeError::NewerVersion { found: v }),
            _ => Err(DecodeError::malformed(error)),
        },
    }
}

/// The `v` field: written as [`VERSION`], refused on reading when it is another.
pub(crate) mod version {
    use super::VERSION;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub fn serialize<S: Serializer>(version: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*version)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let found = u32::deserialize(deserializer)?;
        if found == 0 || found > VERSION {
            return Err(D::Error::custom(format!(
                "v is {found}, expected 1 to {VERSION}"
            )));
        }
        Ok(found)
    }
}

/// What most records fit into.
const USUAL_BYTES: usize = 1024;

/// A record as JSON. Serialising these types can't fail: no maps with odd keys, no floats.
pub(crate) fn encode<T: serde::Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    match serde_json::to_writer(&mut bytes, record) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}
