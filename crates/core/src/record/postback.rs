//! A postback as the ingress understood it, on its way to the consumer.

use super::{DecodeError, VERSION};
use crate::campaign::signature::Signature;
use crate::currency::Currency;
use crate::ids::{ClickId, RequestId};
use crate::money::Revenue;
use crate::request::{Fields, Warning};
use crate::status::Said;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who called, and what was said to the letter: for the log, never for an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The HTTP method.
    pub method: String,
    /// The query string as it came, invalid UTF-8 replaced, cut to [`MAX_RAW_QUERY_BYTES`].
    pub raw_query: String,
    /// The form or JSON body as it came, invalid UTF-8 replaced, cut to [`MAX_RAW_BODY_BYTES`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub raw_body: String,
    /// The caller's address.
    pub address: String,
    /// The caller's user agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
}

/// How much of a query is kept for the log, in bytes; longer ones are refused.
pub const MAX_RAW_QUERY_BYTES: usize = 16 * 1024;

/// How much of a body is kept for the log, in bytes: the record must fit Kafka's 1 MiB also
/// where every byte needs escaping.
pub const MAX_RAW_BODY_BYTES: usize = 64 * 1024;

/// A normalized postback. Its identity is `request_id`, minted by the ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postback {
    #[serde(with = "super::version")]
    v: u32,
    /// Minted by the ingress, never the caller's.
    pub request_id: RequestId,
    /// When the ingress read the request; a conversion's `created_at`.
    pub received_at: Timestamp,
    /// The click that converted; also the record's key.
    pub clickid: ClickId,
    /// The payout, exact.
    pub revenue: Revenue,
    /// The payout as sent, where it differs from `revenue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revenue_raw: Option<String>,
    /// Currency code, three characters at most.
    pub currency: Currency,
    /// Whether the caller sent a currency.
    pub currency_sent: bool,
    /// The advertiser's transaction id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// subid0 to subid4.
    pub subids: [Option<String>; 5],
    /// The goal that was reached, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What was said of the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Said>,
    /// What it was signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// What the caller should look at although the postback was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// Whether it may wait for its click: not where its caller has named too many clicks that nobody
    /// knows.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub may_wait: bool,
    /// Whether an operator sent it once more, to be decided again unless it converted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub replayed: bool,
    /// For the log.
    pub origin: Origin,
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_true(flag: &bool) -> bool {
    *flag
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Postback {
    /// Joins what was understood with who it came from.
    #[must_use]
    pub fn new(
        request_id: RequestId,
        received_at: Timestamp,
        fields: Fields,
        origin: Origin,
    ) -> Self {
        Self {
            v: VERSION,
            request_id,
            received_at: crate::time::to_micros(received_at),
            clickid: fields.clickid,
            revenue: fields.revenue,
            revenue_raw: fields.revenue_raw,
            currency: fields.currency,
            currency_sent: fields.currency_sent,
            external_id: fields.external_id,
            subids: fields.subids,
            event: fields.event,
            status: fields.status,
            signature: fields.signature,
            warnings: fields.warnings,
            may_wait: true,
            replayed: false,
            origin,
        }
    }

    /// Reads a record's value.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut postback: Self = super::decode(bytes)?;
        postback.received_at = crate::time::to_micros(postback.received_at);
        Ok(postback)
    }

    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::encode(self)
    }

    /// What uniqueness and the policies compare: the external id, blank being a value.
    #[must_use]
    pub fn external_key(&self) -> &str {
        self.external_id.as_deref().unwrap_or_default()
    }

    /// What uniqueness and the `event` policy compare: the event, blank being a value.
    #[must_use]
    pub fn event_key(&self) -> &str {
        self.event.as_deref().unwrap_or_default()
    }
}

/// Where a verdict goes: the ingress instance and the verdict partition that it reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyTo {
    /// Partition of the verdicts topic.
    pub partition: i32,
    /// The ingress instance.
    pub instance: String,
}

impl ReplyTo {
    /// Reads the header [`super::HEADER_REPLY_TO`]; `None` where it makes no sense.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (partition, instance) = std::str::from_utf8(header).ok()?.split_once('/')?;
        let partition = partition.parse().ok().filter(|p| *p >= 0)?;
        (!instance.is_empty() && instance.len() <= 255).then(|| Self {
            partition,
            instance: instance.to_owned(),
        })
    }
}

impl std::fmt::Display for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.partition, self.instance)
    }
}
