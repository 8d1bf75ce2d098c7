//! A click, as the ad server publishes it, and the barrier that shares its topic.

use super::{DecodeError, VERSION};
use crate::ids::ClickId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest site, source, publisher and traffic log id, in bytes.
pub const MAX_LABEL_BYTES: usize = 255;

/// A click. The first one published with an id is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Click {
    v: u32,
    /// Names the click; also the record's key.
    pub clickid: ClickId,
    /// The campaign that was clicked, above 0.
    pub campaign_id: i64,
    /// The site it came from; empty if unknown.
    pub site_id: String,
    /// The traffic source; empty if unknown.
    pub source: String,
    /// Internal: stored, never in an answer.
    pub publisher_id: String,
    /// Internal: stored, never in an answer.
    pub traffic_log_id: String,
    /// When the user clicked.
    pub clicked_at: Timestamp,
}

impl Click {
    /// Whether both announce the same. Their times don't count: whoever announces a click again
    /// without one gets another.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let other = Self {
            clicked_at: self.clicked_at,
            ..other.clone()
        };
        *self == other
    }
}

/// What a record of the clicks topic can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClickRecord {
    /// A click.
    Click(Click),
    /// A consumer's barrier: it carries nothing, its offset is its meaning.
    Barrier,
}

/// An id of a foreign system: JSON text or an integer, kept as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Text(String),
    Number(i64),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default = "current", with = "super::version")]
    #[expect(dead_code, reason = "checked while it is read")]
    v: u32,
    clickid: ClickId,
    campaign_id: Label,
    site_id: Option<Label>,
    source: Option<Label>,
    publisher_id: Option<Label>,
    traffic_log_id: Option<Label>,
    clicked_at: Option<String>,
}

fn current() -> u32 {
    VERSION
}

fn label(name: &str, value: Option<Label>) -> Result<String, DecodeError> {
    let text = match value {
        None => return Ok(String::new()),
        Some(Label::Number(number)) => number.to_string(),
        Some(Label::Text(text)) => text,
    };
    if text.len() > MAX_LABEL_BYTES {
        return Err(DecodeError::malformed(format_args!(
            "{name} is longer than {MAX_LABEL_BYTES} bytes"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(DecodeError::malformed(format_args!(
            "{name} holds a control character"
        )));
    }
    Ok(text)
}

impl Click {
    /// Reads one click.
    ///
    /// `received_at` stands in for a missing `clicked_at`: the receive time at the ingress, or
    /// the broker's append time for a record that a foreign producer wrote without it.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Malformed`] names the field.
    pub fn decode(bytes: &[u8], received_at: Timestamp) -> Result<Self, DecodeError> {
        let raw: Raw = super::decode(bytes)?;
        let campaign_id = match raw.campaign_id {
            Label::Number(number) => Some(number),
            Label::Text(text) => text.trim().parse().ok(),
        }
        .filter(|id| *id > 0)
        .ok_or_else(|| DecodeError::malformed("campaign_id must be an integer above 0"))?;
        let clicked_at = match raw.clicked_at {
            Some(text) => crate::time::parse(&text)
                .map_err(|why| DecodeError::malformed(format_args!("clicked_at: {why}")))?,
            None => crate::time::to_micros(received_at),
        };
        Ok(Self {
            v: VERSION,
            clickid: raw.clickid,
            campaign_id,
            site_id: label("site_id", raw.site_id)?,
            source: label("source", raw.source)?,
            publisher_id: label("publisher_id", raw.publisher_id)?,
            traffic_log_id: label("traffic_log_id", raw.traffic_log_id)?,
            clicked_at,
        })
    }

    /// A click from parts that were validated before, as the stores read them back.
    #[must_use]
    pub fn from_parts(
        clickid: ClickId,
        campaign_id: i64,
        [site_id, source, publisher_id, traffic_log_id]: [String; 4],
        clicked_at: Timestamp,
    ) -> Self {
        Self {
            v: VERSION,
            clickid,
            campaign_id,
            site_id,
            source,
            publisher_id,
            traffic_log_id,
            clicked_at,
        }
    }

    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::encode(self)
    }
}

impl ClickRecord {
    /// Reads a record of the clicks topic. `appended_at` is the broker's append time.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8], appended_at: Timestamp) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Probe<'a> {
            #[serde(borrow)]
            barrier: Option<&'a serde_json::value::RawValue>,
            v: Option<u32>,
        }
        // Barriers are rare and clicks many: the probe runs only where the word stands at all.
        const MARK: &[u8] = b"\"barrier\"";
        if bytes.windows(MARK.len()).any(|window| window == MARK)
            && let Ok(Probe {
                barrier: Some(_),
                v,
            }) = serde_json::from_slice(bytes)
        {
            return match v {
                Some(found) if found > VERSION => Err(DecodeError::NewerVersion { found }),
                _ => Ok(Self::Barrier),
            };
        }
        Click::decode(bytes, appended_at).map(Self::Click)
    }
}

/// A barrier record's value; `consumer` says who wrote it, for a person who reads the topic.
#[must_use]
pub fn barrier(consumer: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Barrier<'a> {
        v: u32,
        barrier: &'a str,
    }
    super::encode(&Barrier {
        v: VERSION,
        barrier: consumer,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn numbers_and_text_are_ids_alike_and_unknown_fields_are_ignored() {
        let click = Click::decode(
            br#"{"v":1,"clickid":"abc","campaign_id":18,"site_id":7,"source":"popunder","extra":[1],"clicked_at":"2025-11-26 14:00:00"}"#,
            NOW,
        )
        .unwrap();
        assert_eq!(click.site_id, "7");
        assert_eq!(click.publisher_id, "");
        let again = ClickRecord::decode(&click.encode(), NOW).unwrap();
        assert_eq!(again, ClickRecord::Click(click));
    }

    #[test]
    fn a_barrier_is_not_a_click() {
        let bytes = barrier("consumer-1");
        assert_eq!(ClickRecord::decode(&bytes, NOW), Ok(ClickRecord::Barrier));
        let click = br#"{"v":1,"clickid":"\"barrier\"","campaign_id":1,"source":"\"barrier\""}"#;
        assert!(matches!(
            ClickRecord::decode(click, NOW),
            Ok(ClickRecord::Click(_))
        ));
    }

    #[test]
    fn refusals_name_the_field_and_newer_versions_are_told_apart() {
        for (text, word) in [
            (r#"{"v":1,"campaign_id":1}"#, "clickid"),
            (r#"{"v":1,"clickid":"a","campaign_id":0}"#, "campaign_id"),
            (
                r#"{"v":1,"clickid":"a","campaign_id":1,"clicked_at":"x"}"#,
                "clicked_at",
            ),
            (
                r#"{"v":1,"clickid":"a","campaign_id":1,"source":"a\u0000"}"#,
                "source",
            ),
            ("{", "EOF"),
        ] {
            match Click::decode(text.as_bytes(), NOW) {
                Err(DecodeError::Malformed(why)) => assert!(why.contains(word), "{why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(
            Click::decode(br#"{"v":2,"id":{}}"#, NOW),
            Err(DecodeError::NewerVersion { found: 2 })
        );
    }
}
