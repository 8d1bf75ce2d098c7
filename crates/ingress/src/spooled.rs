//! How a record lies in the spool: a line of JSON that names its topic and key, so that a spool
//! can be read on another machine and by people.

use postern_core::record::HEADER_REQUEST_ID;
use postern_kafka::{CLICKS, Message, POSTBACKS, REJECTS};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const VERSION: u32 = 1;

/// A spooled record.
#[derive(Debug, Deserialize, Serialize)]
pub struct Spooled {
    v: u32,
    topic: Topic,
    key: String,
    /// Where it is a postback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    record: Box<RawValue>,
}

/// A topic whose records are spooled.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// `postern.clicks`.
    Clicks,
    /// `postern.postbacks`.
    Postbacks,
    /// `postern.rejects`.
    Rejects,
}

impl Topic {
    /// Its name in Kafka.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clicks => CLICKS,
            Self::Postbacks => POSTBACKS,
            Self::Rejects => REJECTS,
        }
    }

    /// Its word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clicks => "clicks",
            Self::Postbacks => "postbacks",
            Self::Rejects => "rejects",
        }
    }
}

/// Why a spooled record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SpooledError {
    /// It isn't one.
    #[error("not a spooled record: {0}")]
    Malformed(String),
    /// A later release wrote it.
    #[error("a later release wrote it (v {0}): drain it with that release")]
    Newer(u32),
}

/// The bytes of a record for the spool; `None` where its key or value is no text, which no
/// record of ours is.
pub(crate) fn encode(
    topic: Topic,
    key: &[u8],
    value: &[u8],
    request_id: Option<&str>,
) -> Option<Vec<u8>> {
    let record = std::str::from_utf8(value).ok()?.to_owned();
    serde_json::to_vec(&Spooled {
        v: VERSION,
        topic,
        key: std::str::from_utf8(key).ok()?.to_owned(),
        request_id: request_id.map(str::to_owned),
        record: RawValue::from_string(record).ok()?,
    })
    .ok()
}

impl Spooled {
    /// Reads what [`encode`] wrote.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, SpooledError> {
        let spooled: Self = serde_json::from_slice(bytes)
            .map_err(|error| SpooledError::Malformed(error.to_string()))?;
        if spooled.v > VERSION {
            return Err(SpooledError::Newer(spooled.v));
        }
        Ok(spooled)
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The id of its request, where it is a postback.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Calls `publish` with the record as it goes to Kafka; `reply` is where its verdict goes.
    pub(crate) fn message<T>(
        &self,
        reply: Option<&(&str, String)>,
        publish: impl FnOnce(&Message<'_>) -> T,
    ) -> T {
        let mut headers = Vec::with_capacity(2);
        if let Some(id) = &self.request_id {
            headers.push((HEADER_REQUEST_ID, id.as_str()));
        }
        if let Some((name, value)) = reply {
            headers.push((name, value.as_str()));
        }
        publish(&Message {
            topic: self.topic.name(),
            key: self.key.as_bytes(),
            value: self.record.get().as_bytes(),
            partition: None,
            headers: &headers,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_went_to_the_byte() {
        let value = br#"{"v":1,"revenue":1.20,"x":"\u00e9"}"#;
        let bytes = encode(Topic::Postbacks, "é 1".as_bytes(), value, Some("id-1")).unwrap();
        let spooled = Spooled::decode(&bytes).unwrap();
        assert_eq!(
            (spooled.topic(), spooled.request_id()),
            (Topic::Postbacks, Some("id-1"))
        );
        spooled.message(Some(&("reply", "3:x".to_owned())), |message| {
            assert_eq!(message.topic, "postern.postbacks");
            assert_eq!((message.key, message.value), ("é 1".as_bytes(), &value[..]));
            let expected = [(HEADER_REQUEST_ID, "id-1"), ("reply", "3:x")];
            assert_eq!(message.headers, expected);
        });
    }

    #[test]
    fn what_a_later_release_wrote_is_told_from_rubbish() {
        let newer = br#"{"v":2,"topic":"clicks","key":"a","record":{}}"#;
        assert!(matches!(
            Spooled::decode(newer),
            Err(SpooledError::Newer(2))
        ));
        let rubbish = Spooled::decode(b"{");
        assert!(matches!(rubbish, Err(SpooledError::Malformed(_))));
    }
}
