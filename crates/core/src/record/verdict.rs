//! What became of a postback, as the consumer tells the ingress that waits.

use super::{DecodeError, VERSION};
use crate::currency::Currency;
use crate::ids::RequestId;
use crate::money::Revenue;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The outcome of one postback. There is no other: a missing one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It became a conversion.
    Converted {
        /// The click's campaign.
        campaign_id: i64,
        /// As stored.
        revenue: Revenue,
        /// As stored.
        currency: Currency,
        /// The receive time of the postback.
        created_at: Timestamp,
    },
    /// A conversion with its dedupe key existed before; these are that one's values.
    Duplicate {
        /// The stored conversion's campaign.
        campaign_id: i64,
        /// The stored conversion's revenue.
        revenue: Revenue,
        /// The stored conversion's currency.
        currency: Currency,
    },
    /// No click with its id had been published before it.
    ClickNotFound,
}

impl Outcome {
    /// The word that logs, metrics and the log table use.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Converted { .. } => "converted",
            Self::Duplicate { .. } => "duplicate",
            Self::ClickNotFound => "click_not_found",
        }
    }
}

/// One postback's verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which postback.
    pub request_id: RequestId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The verdicts of one batch for one ingress instance: one record of the verdicts topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictBatch {
    #[serde(with = "super::version")]
    v: u32,
    /// The ingress instance; also the record's key.
    pub instance: String,
    /// In the order in which they were decided.
    pub verdicts: Vec<Verdict>,
}

impl VerdictBatch {
    /// A batch for `instance`.
    #[must_use]
    pub fn new(instance: String, verdicts: Vec<Verdict>) -> Self {
        Self {
            v: VERSION,
            instance,
            verdicts,
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
