//! From columns to the domain's types: what both engines read alike.
//!
//! A value that can't be read was not written by this schema's releases: that is an error of the
//! schema, which names the column.

use crate::{Logged, LoggedState, StoreError};
use jiff::Timestamp;
use postern_core::currency::Currency;
use postern_core::decision::{Dedupe, Known, Policy, Stored};
use postern_core::ids::{ClickId, RequestId};
use postern_core::money::Revenue;
use postern_core::record::click::Click;
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::{Origin, Postback};
use postern_core::record::verdict::Outcome;
use postern_core::request::{Fields, Warning};

/// The word that stands in the log for a postback that the ingress refused.
pub(crate) const REFUSED: &str = "refused";

/// The error of a column that can't be read.
pub(crate) fn unreadable(column: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Schema(format!(
        "column {column} holds a value that this release can't read: {why}"
    ))
}

pub(crate) fn clickid(text: &str) -> Result<ClickId, StoreError> {
    ClickId::parse(text.as_bytes()).map_err(|why| unreadable("clickid", why))
}

fn revenue(micros: i64) -> Result<Revenue, StoreError> {
    Revenue::from_micros(micros).ok_or_else(|| unreadable("revenue_micros", "out of range"))
}

pub(crate) fn policy(version: i64, dedupe: &str) -> Result<Policy, StoreError> {
    let dedupe = match dedupe {
        "click" => Dedupe::Click,
        "txid" => Dedupe::Txid,
        other => return Err(unreadable("dedupe", other)),
    };
    Ok(Policy { version, dedupe })
}

/// A row of the log after its latest step, joined with the conversion that it names.
pub(crate) struct OutcomeRow<'a> {
    pub(crate) outcome: &'a str,
    pub(crate) received_at: Timestamp,
    pub(crate) conversion_id: Option<RequestId>,
    pub(crate) policy_version: i64,
    /// The conversion's; where that is gone, the log's own.
    pub(crate) campaign_id: Option<i64>,
    pub(crate) revenue_micros: Option<i64>,
    pub(crate) currency: Option<&'a str>,
}

impl OutcomeRow<'_> {
    pub(crate) fn known(&self) -> Result<Known, StoreError> {
        let campaign_id = || {
            self.campaign_id
                .ok_or_else(|| unreadable("campaign_id", "null"))
        };
        let revenue = || {
            self.revenue_micros
                .ok_or_else(|| unreadable("revenue_micros", "null"))
                .and_then(revenue)
        };
        let currency = Currency::normalize(self.currency.unwrap_or_default());
        let outcome = match self.outcome {
            "converted" => Outcome::Converted {
                campaign_id: campaign_id()?,
                revenue: revenue()?,
                currency,
                created_at: self.received_at,
            },
            "duplicate" => Outcome::Duplicate {
                campaign_id: campaign_id()?,
                revenue: revenue()?,
                currency,
            },
            "click_not_found" => Outcome::ClickNotFound,
            other => return Err(unreadable("outcome", other)),
        };
        Ok(Known {
            outcome,
            conversion_id: self.conversion_id,
            policy_version: self.policy_version,
        })
    }

    /// The whole answer about a logged postback.
    pub(crate) fn logged(
        &self,
        id: Option<&str>,
        warnings: Option<&str>,
        reason: Option<String>,
        message: Option<String>,
    ) -> Result<Logged, StoreError> {
        let state = if self.outcome == REFUSED {
            LoggedState::Refused {
                reason: reason.unwrap_or_default(),
                message: message.unwrap_or_default(),
            }
        } else {
            LoggedState::Decided {
                clickid: clickid(id.unwrap_or_default())?,
                warnings: read_warnings(warnings)?,
                known: self.known()?,
            }
        };
        Ok(Logged {
            received_at: self.received_at,
            state,
        })
    }
}

/// The campaign that an outcome names.
pub(crate) fn campaign_of(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Converted { campaign_id, .. } | Outcome::Duplicate { campaign_id, .. } => {
            Some(*campaign_id)
        }
        Outcome::ClickNotFound => None,
    }
}

/// Warnings as the log keeps them; `None` for none.
pub(crate) fn write_warnings(warnings: &[Warning]) -> Option<String> {
    if warnings.is_empty() {
        return None;
    }
    serde_json::to_string(warnings).ok()
}

fn read_warnings(text: Option<&str>) -> Result<Vec<Warning>, StoreError> {
    text.map_or(Ok(Vec::new()), |text| {
        serde_json::from_str(text).map_err(|why| unreadable("warnings", why))
    })
}

pub(crate) fn stored(
    conversion_id: RequestId,
    campaign_id: i64,
    external_key: String,
    revenue_micros: i64,
    currency: &str,
) -> Result<Stored, StoreError> {
    Ok(Stored {
        conversion_id,
        campaign_id,
        external_key,
        revenue: revenue(revenue_micros)?,
        currency: Currency::normalize(currency),
    })
}

pub(crate) fn waiting(text: &str) -> Result<Postback, StoreError> {
    Postback::decode(text.as_bytes()).map_err(|why| unreadable("postback", why))
}

/// A row of `conversions`.
pub(crate) struct ConversionRow {
    pub(crate) conversion_id: RequestId,
    pub(crate) clickid: String,
    pub(crate) event: String,
    pub(crate) campaign_id: i64,
    /// Site, source, publisher, traffic log id.
    pub(crate) labels: [String; 4],
    pub(crate) revenue_micros: i64,
    pub(crate) currency: String,
    pub(crate) currency_sent: bool,
    pub(crate) external_id: Option<String>,
    pub(crate) subids: [Option<String>; 5],
    pub(crate) created_at: Timestamp,
    pub(crate) clicked_at: Timestamp,
    pub(crate) policy_version: i64,
}

impl ConversionRow {
    /// The conversion, made as the decision makes it: of a postback and a click.
    pub(crate) fn conversion(self) -> Result<Conversion, StoreError> {
        let id = clickid(&self.clickid)?;
        let click = Click::from_parts(id.clone(), self.campaign_id, self.labels, self.clicked_at);
        let fields = Fields {
            clickid: id,
            revenue: revenue(self.revenue_micros)?,
            revenue_raw: None,
            currency: Currency::normalize(&self.currency),
            currency_sent: self.currency_sent,
            external_id: self.external_id,
            subids: self.subids,
            warnings: Vec::new(),
        };
        let postback = Postback::new(
            self.conversion_id,
            self.created_at,
            fields,
            Origin::default(),
        );
        let mut conversion = Conversion::of(&postback, &click, self.policy_version);
        conversion.event = self.event;
        Ok(conversion)
    }
}
