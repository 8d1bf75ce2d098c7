//! A consumed record, owned.

use jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp as KafkaTimestamp};

/// A record read from a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key; empty for none.
    pub key: Vec<u8>,
    /// Its value; empty for none.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The broker's append time (all topics use LogAppendTime); the epoch where it has none.
    pub appended_at: Timestamp,
}

impl Record {
    pub(crate) fn of(message: &BorrowedMessage<'_>) -> Self {
        let millis = match message.timestamp() {
            KafkaTimestamp::NotAvailable => 0,
            KafkaTimestamp::CreateTime(at) | KafkaTimestamp::LogAppendTime(at) => at,
        };
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: message.headers().map_or_else(Vec::new, |headers| {
                headers
                    .iter()
                    .map(|header| {
                        (
                            header.key.to_owned(),
                            header.value.unwrap_or_default().to_vec(),
                        )
                    })
                    .collect()
            }),
            appended_at: Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_slice())
    }
}
