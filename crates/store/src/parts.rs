//! From columns to the domain's types: what both engines read alike.
//!
//! A value that can't be read was not written by this schema's releases: that is an error of the
//! schema, which names the column.

use crate::{Grant, Logged, LoggedState, StoreError};
use jiff::Timestamp;
use postern_core::campaign::{Campaign, Change, Dedupe, SecretChange, Settings};
use postern_core::currency::Currency;
use postern_core::decision::{Known, Stored};
use postern_core::ids::{ClickId, RequestId};
use postern_core::money::Revenue;
use postern_core::record::click::Click;
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::{Origin, Postback};
use postern_core::record::verdict::{Forbidden, Outcome};
use postern_core::request::{Fields, Warning};
use postern_core::status::Status;

/// The word that stands in the log for a postback that the ingress refused.
pub(crate) const REFUSED: &str = "refused";

/// How many campaigns are handed over in one transaction: their rows are locked meanwhile.
pub(crate) const PUBLISHED_AT_ONCE: i64 = 100;

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

fn dedupe(word: &str) -> Result<Dedupe, StoreError> {
    Dedupe::of(word).ok_or_else(|| unreadable("dedupe", word))
}

fn status(word: &str) -> Result<Status, StoreError> {
    word.parse().map_err(|_| unreadable("status", word))
}

/// A row of `campaigns`.
pub(crate) fn campaign(
    campaign_id: i64,
    version: i64,
    settings: &str,
    secret: Option<&str>,
) -> Result<Campaign, StoreError> {
    Campaign::stored(campaign_id, version, settings, secret)
        .map_err(|why| unreadable("settings", format_args!("campaign {campaign_id}: {why}")))
}

/// The settings of a row of `campaign_versions`.
pub(crate) fn settings(text: &str) -> Result<Settings, StoreError> {
    campaign(0, 0, text, None).map(|campaign| campaign.settings)
}

/// Changes of campaigns in the order in which they are locked.
///
/// # Errors
///
/// [`StoreError::Refused`] where one stands twice.
pub(crate) fn in_order(changes: &[Change]) -> Result<Vec<&Change>, StoreError> {
    let mut changes: Vec<&Change> = changes.iter().collect();
    changes.sort_by_key(|change| change.campaign_id);
    let twice = changes
        .windows(2)
        .find(|pair| pair[0].campaign_id == pair[1].campaign_id);
    if let Some(pair) = twice {
        let why = format!("campaign {} stands twice", pair[0].campaign_id);
        return Err(StoreError::Refused(why.into()));
    }
    Ok(changes)
}

/// The campaign after a change: at the same version where it is as wanted already.
///
/// # Errors
///
/// [`StoreError::Conflict`].
pub(crate) fn apply(before: &Campaign, change: &Change) -> Result<Campaign, StoreError> {
    if change
        .expected
        .is_some_and(|version| version != before.version)
    {
        return Err(StoreError::Conflict {
            campaign_id: before.campaign_id,
            version: before.version,
        });
    }
    let mut after = Campaign {
        settings: change.settings.clone(),
        secret: match &change.secret {
            SecretChange::Keep => before.secret.clone(),
            SecretChange::Set(secret) => Some(secret.clone()),
            SecretChange::Remove => None,
        },
        ..before.clone()
    };
    // A campaign that nobody set isn't set by what it is like, but by being set.
    if before.version == 0 || after != *before {
        after.version += 1;
    }
    Ok(after)
}

/// Settings as the store keeps them.
pub(crate) fn write_settings(settings: &Settings) -> String {
    serde_json::Value::Object(settings.to_json()).to_string()
}

/// What a token allows, from the columns that say it.
pub(crate) fn grant(
    role: &str,
    advertiser: Option<String>,
    campaigns: Option<String>,
) -> Result<Grant, StoreError> {
    match (role, advertiser, campaigns) {
        ("admin", None, None) => Ok(Grant::Admin),
        ("advertiser", Some(advertiser), None) => Ok(Grant::Advertiser(advertiser)),
        ("campaigns", None, Some(campaigns)) => serde_json::from_str(&campaigns)
            .map(Grant::Campaigns)
            .map_err(|why| unreadable("campaigns", why)),
        (other, ..) => Err(unreadable("role", other)),
    }
}

/// The columns `advertiser` and `campaigns` of what a token allows.
pub(crate) fn grant_columns(grant: &Grant) -> (Option<&str>, Option<String>) {
    match grant {
        Grant::Admin => (None, None),
        Grant::Advertiser(advertiser) => (Some(advertiser), None),
        Grant::Campaigns(campaigns) => (
            None,
            Some(serde_json::Value::from(campaigns.as_slice()).to_string()),
        ),
    }
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
    /// The status that the postback brought.
    pub(crate) status: Option<&'a str>,
    /// Why it came to this.
    pub(crate) detail: Option<&'a str>,
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
            "updated" => Outcome::Updated {
                campaign_id: campaign_id()?,
                revenue: revenue()?,
                currency,
                status: status(self.status.unwrap_or_default())?,
            },
            "click_not_found" => Outcome::ClickNotFound,
            "click_expired" => Outcome::ClickExpired {
                campaign_id: campaign_id()?,
            },
            "forbidden" => Outcome::Forbidden {
                campaign_id: campaign_id()?,
                reason: self
                    .detail
                    .and_then(Forbidden::of)
                    .ok_or_else(|| unreadable("reason", "not why a postback is forbidden"))?,
            },
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

/// The status that an outcome brought about.
pub(crate) fn status_of(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Updated { status, .. } => Some(status.word()),
        _ => None,
    }
}

/// What was observed as the log keeps it; `None` for nothing.
pub(crate) fn write_observed(observed: &[&str]) -> Option<String> {
    (!observed.is_empty()).then(|| observed.join(","))
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

/// A row of `current_conversions`, as far as duplicates need it.
pub(crate) struct StoredRow<'a> {
    pub(crate) conversion_id: RequestId,
    pub(crate) campaign_id: i64,
    pub(crate) event: &'a str,
    pub(crate) external_id: Option<&'a str>,
    pub(crate) dedupe: &'a str,
    pub(crate) revenue_micros: i64,
    pub(crate) currency: &'a str,
    pub(crate) site_id: &'a str,
    pub(crate) source: &'a str,
    pub(crate) created_at: Timestamp,
    pub(crate) status: &'a str,
    pub(crate) status_at: Timestamp,
    pub(crate) status_id: RequestId,
}

impl StoredRow<'_> {
    pub(crate) fn stored(&self) -> Result<Stored, StoreError> {
        Ok(Stored {
            conversion_id: self.conversion_id,
            campaign_id: self.campaign_id,
            event_key: self.event.to_owned(),
            external_key: self.external_id.unwrap_or_default().to_owned(),
            dedupe: dedupe(self.dedupe)?,
            revenue: revenue(self.revenue_micros)?,
            currency: Currency::normalize(self.currency),
            site_id: self.site_id.to_owned(),
            source: self.source.to_owned(),
            created_at: self.created_at,
            status: status(self.status)?,
            status_at: self.status_at,
            status_id: self.status_id,
        })
    }
}

pub(crate) fn waiting(text: &str) -> Result<Postback, StoreError> {
    Postback::decode(text.as_bytes()).map_err(|why| unreadable("postback", why))
}

/// A conversion at one of its statuses.
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
    pub(crate) dedupe: String,
    pub(crate) status: String,
    pub(crate) status_at: Timestamp,
    pub(crate) status_id: RequestId,
}

impl ConversionRow {
    /// The conversion, made as the decision makes it: of a postback and a click.
    pub(crate) fn conversion(self) -> Result<Conversion, StoreError> {
        let id = clickid(&self.clickid)?;
        let click = Click::from_parts(id.clone(), self.campaign_id, self.labels, self.clicked_at);
        let currency = Currency::normalize(&self.currency);
        let fields = Fields {
            clickid: id,
            revenue: revenue(self.revenue_micros)?,
            revenue_raw: None,
            currency: currency.clone(),
            currency_sent: self.currency_sent,
            external_id: self.external_id,
            subids: self.subids,
            event: (!self.event.is_empty()).then_some(self.event),
            status: None,
            signature: None,
            warnings: Vec::new(),
        };
        let postback = Postback::new(
            self.conversion_id,
            self.created_at,
            fields,
            Origin::default(),
        );
        let mut conversion = Conversion::of(&postback, &click, &Campaign::default());
        conversion.currency = currency;
        conversion.policy_version = self.policy_version;
        conversion.dedupe = dedupe(&self.dedupe)?;
        conversion.status = status(&self.status)?;
        conversion.status_at = self.status_at;
        conversion.status_id = self.status_id;
        Ok(conversion)
    }
}
