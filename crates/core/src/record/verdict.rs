//! What became of a postback, as the consumer tells the ingress that waits.

use super::{DecodeError, VERSION};
use crate::currency::Currency;
use crate::ids::RequestId;
use crate::money::Revenue;
use crate::status::Status;
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
    /// It changed the status of the conversion with its dedupe key; these are that one's values.
    Updated {
        /// The stored conversion's campaign.
        campaign_id: i64,
        /// The stored conversion's revenue.
        revenue: Revenue,
        /// The stored conversion's currency.
        currency: Currency,
        /// Its status from now on.
        status: Status,
    },
    /// No click with its id had been published before it.
    ClickNotFound,
    /// Its click is older than the campaign's attribution window.
    ClickExpired {
        /// The click's campaign.
        campaign_id: i64,
    },
    /// The campaign doesn't take it from this caller.
    Forbidden {
        /// The click's campaign.
        campaign_id: i64,
        /// Why.
        reason: Forbidden,
    },
}

/// Why a campaign doesn't take a postback.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forbidden {
    /// It came from an address outside the campaign's networks.
    Address,
    /// It isn't signed.
    SignatureMissing,
    /// Its signature isn't that of its parameters.
    SignatureWrong,
}

impl Forbidden {
    /// The word that logs and the log table use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::SignatureMissing => "signature_missing",
            Self::SignatureWrong => "signature_wrong",
        }
    }

    /// The reason that a word stands for.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Address, Self::SignatureMissing, Self::SignatureWrong]
            .into_iter()
            .find(|reason| reason.word() == word)
    }
}

impl Outcome {
    /// The word that logs, metrics and the log table use.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Converted { .. } => "converted",
            Self::Duplicate { .. } => "duplicate",
            Self::Updated { .. } => "updated",
            Self::ClickNotFound => "click_not_found",
            Self::ClickExpired { .. } => "click_expired",
            Self::Forbidden { .. } => "forbidden",
        }
    }

    /// The campaign that it speaks of.
    #[must_use]
    pub fn campaign_id(&self) -> Option<i64> {
        match self {
            Self::Converted { campaign_id, .. }
            | Self::Duplicate { campaign_id, .. }
            | Self::Updated { campaign_id, .. }
            | Self::ClickExpired { campaign_id }
            | Self::Forbidden { campaign_id, .. } => Some(*campaign_id),
            Self::ClickNotFound => None,
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
