//! A conversion: what is stored, and the event that tells downstream systems of it.

use super::{DecodeError, VERSION};
use crate::campaign::{Campaign, Dedupe};
use crate::currency::Currency;
use crate::ids::{ClickId, RequestId};
use crate::money::Revenue;
use crate::status::Status;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A stored conversion as it stands at one of its statuses. Its id is the request id of the
/// postback that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    #[serde(with = "super::version")]
    v: u32,
    /// Names the conversion.
    pub conversion_id: RequestId,
    /// What it is worth.
    pub status: Status,
    /// The postback that gave it this status: the conversion's own, or a later one. Together
    /// with `conversion_id` the event's dedupe key.
    pub status_id: RequestId,
    /// The receive time of that postback. Of several events of a conversion the one with the
    /// greatest (`status_at`, `status_id`) holds.
    pub status_at: Timestamp,
    /// The click.
    pub clickid: ClickId,
    /// The goal that was reached, as sent; empty for none.
    pub event: String,
    /// The click's campaign.
    pub campaign_id: i64,
    /// The click's site.
    pub site_id: String,
    /// The click's source.
    pub source: String,
    /// The click's publisher; internal.
    pub publisher_id: String,
    /// The click's traffic log id; internal.
    pub traffic_log_id: String,
    /// The payout, exact.
    pub revenue: Revenue,
    /// Its currency.
    pub currency: Currency,
    /// Whether the caller sent the currency.
    pub currency_sent: bool,
    /// The advertiser's transaction id.
    pub external_id: Option<String>,
    /// subid0 to subid4.
    pub subids: [Option<String>; 5],
    /// The receive time of the postback.
    pub created_at: Timestamp,
    /// When the user clicked.
    pub clicked_at: Timestamp,
    /// Version of the campaign's settings that it was decided by; 0 where none are set.
    pub policy_version: i64,
    /// The dedupe policy that it was decided by: what it didn't look at isn't known of it.
    pub dedupe: Dedupe,
}

impl Conversion {
    /// The conversion that `postback` makes of `click`.
    #[must_use]
    pub fn of(
        postback: &super::postback::Postback,
        click: &super::click::Click,
        campaign: &Campaign,
    ) -> Self {
        let settings = &campaign.settings;
        let status = match &postback.status {
            Some(said) if settings.statuses => said.status.unwrap_or(settings.default_status),
            _ if settings.statuses => settings.default_status,
            _ => Status::Approved,
        };
        let currency = if postback.currency_sent {
            postback.currency.clone()
        } else {
            settings.default_currency.clone()
        };
        Self {
            v: VERSION,
            conversion_id: postback.request_id,
            status,
            status_id: postback.request_id,
            status_at: postback.received_at,
            clickid: postback.clickid.clone(),
            event: postback.event_key().to_owned(),
            campaign_id: click.campaign_id,
            site_id: click.site_id.clone(),
            source: click.source.clone(),
            publisher_id: click.publisher_id.clone(),
            traffic_log_id: click.traffic_log_id.clone(),
            revenue: postback.revenue,
            currency,
            currency_sent: postback.currency_sent,
            external_id: postback.external_id.clone(),
            subids: postback.subids.clone(),
            created_at: postback.received_at,
            clicked_at: click.clicked_at,
            policy_version: campaign.version,
            dedupe: settings.dedupe,
        }
    }

    /// What uniqueness compares besides clickid and event: the external id, blank being a value.
    #[must_use]
    pub fn external_key(&self) -> &str {
        self.external_id.as_deref().unwrap_or_default()
    }

    /// Reads an event's value, or a stored row rendered in its shape.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::decode(bytes)
    }

    /// The event's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::encode(self)
    }
}
