//! What was refused or could not be processed: raw, with the reason.

use super::{DecodeError, VERSION};
use crate::ids::RequestId;
use crate::record::postback::{Origin, Postback};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a record came from that could not be processed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key, invalid UTF-8 replaced.
    pub key: String,
    /// Its value as text, where it is valid UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its value in hexadecimal, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_hex: Option<String>,
    /// The value's length in bytes, where it was cut to [`MAX_VALUE_BYTES`]; the whole record
    /// stands where `topic`, `partition` and `offset` say, for as long as its topic keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_bytes: Option<usize>,
}

/// How much of a record's value is kept, in bytes: a reject must fit Kafka's 1 MB also where
/// every byte needs escaping, or it would block the partition that it came from.
pub const MAX_VALUE_BYTES: usize = 128 * 1024;
/// The same of its key.
const MAX_KEY_BYTES: usize = 1024;

impl Source {
    /// Keeps a record's bytes so that they can be had back to the letter, up to a length.
    #[must_use]
    pub fn new(topic: &str, partition: i32, offset: i64, key: &[u8], value: &[u8]) -> Self {
        use std::fmt::Write as _;
        let whole = value.len();
        let value = &value[..whole.min(MAX_VALUE_BYTES)];
        let key = &key[..key.len().min(MAX_KEY_BYTES)];
        let (text, hex) = match std::str::from_utf8(value) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => {
                let mut hex = String::with_capacity(value.len() * 2);
                for byte in value {
                    let _ = write!(hex, "{byte:02x}");
                }
                (None, Some(hex))
            }
        };
        Self {
            topic: topic.to_owned(),
            partition,
            offset,
            key: String::from_utf8_lossy(key).into_owned(),
            value: text,
            value_hex: hex,
            value_bytes: (whole > value.len()).then_some(whole),
        }
    }
}

/// A UUIDv7 whose random part is the record's place.
fn id_of_place(appended_at: Timestamp, source: &Source) -> RequestId {
    let log = format!("{}/{}", source.topic, source.partition);
    let mut place = [0; 10];
    place[..4].copy_from_slice(&crate::partition::murmur2(log.as_bytes()).to_be_bytes());
    place[4..].copy_from_slice(&source.offset.to_be_bytes()[2..]);
    let millis = u64::try_from(appended_at.as_millisecond()).unwrap_or(0);
    RequestId::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &place).into_uuid())
}

/// A record of the rejects topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    #[serde(with = "super::version")]
    v: u32,
    /// The refused request's id; for a record without one, an id made of its place.
    pub request_id: RequestId,
    /// When it was received.
    pub received_at: Timestamp,
    /// The error code, as the caller got it.
    pub reason: String,
    /// The sentence that goes with it.
    pub message: String,
    /// The refused request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Origin>,
    /// The record that could not be processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Source>,
}

impl Reject {
    /// A postback that the ingress refused.
    #[must_use]
    pub fn request(
        request_id: RequestId,
        received_at: Timestamp,
        reason: &str,
        message: String,
        origin: Origin,
    ) -> Self {
        Self {
            v: VERSION,
            request_id,
            received_at: crate::time::to_micros(received_at),
            reason: reason.to_owned(),
            message,
            request: Some(origin),
            record: None,
        }
    }

    /// A postback that was taken but that the store refuses: refused after all, with its request
    /// for the log and its record.
    #[must_use]
    pub fn taken(reason: &str, message: String, postback: Postback, source: Source) -> Self {
        Self {
            v: VERSION,
            request_id: postback.request_id,
            received_at: postback.received_at,
            reason: reason.to_owned(),
            message,
            request: Some(postback.origin),
            record: Some(source),
        }
    }

    /// A record that the consumer could not process. Its id follows from its place on the topic,
    /// so that processing it again names it alike.
    #[must_use]
    pub fn record(appended_at: Timestamp, reason: &str, message: String, source: Source) -> Self {
        Self {
            v: VERSION,
            request_id: id_of_place(appended_at, &source),
            received_at: crate::time::to_micros(appended_at),
            reason: reason.to_owned(),
            message,
            request: None,
            record: Some(source),
        }
    }

    /// Reads a record's value.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::decode(bytes)
    }

    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::encode(self)
    }
}
