//! What the ingress must know of a campaign. No secrets: everybody who reads the topic sees it.

use super::{DecodeError, VERSION};
use crate::campaign::{Activity, Campaign, TrackingUrl};
use serde::{Deserialize, Serialize};

/// A campaign as the ingress knows it; the record with the highest version holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignRecord {
    /// Which campaign; also the record's key.
    pub campaign_id: i64,
    /// Version of its settings.
    pub version: i64,
    /// Whether its clicks are redirected.
    pub status: Activity,
    /// Where to.
    pub tracking_url: Option<TrackingUrl>,
}

#[derive(Serialize, Deserialize)]
struct Raw<'a> {
    #[serde(with = "super::version")]
    v: u32,
    campaign_id: i64,
    version: i64,
    status: Activity,
    #[serde(borrow)]
    tracking_url: Option<std::borrow::Cow<'a, str>>,
}

impl From<&Campaign> for CampaignRecord {
    fn from(campaign: &Campaign) -> Self {
        Self {
            campaign_id: campaign.campaign_id,
            version: campaign.version,
            status: campaign.settings.status,
            tracking_url: campaign.settings.tracking_url.clone(),
        }
    }
}

impl CampaignRecord {
    /// Reads a record's value.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let raw: Raw<'_> = super::decode(bytes)?;
        let tracking_url = raw
            .tracking_url
            .map(|text| TrackingUrl::parse(&text))
            .transpose()
            .map_err(|why| DecodeError::malformed(format_args!("tracking_url: {why}")))?;
        Ok(Self {
            campaign_id: raw.campaign_id,
            version: raw.version,
            status: raw.status,
            tracking_url,
        })
    }

    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        super::encode(&Raw {
            v: VERSION,
            campaign_id: self.campaign_id,
            version: self.version,
            status: self.status,
            tracking_url: self.tracking_url.as_ref().map(|url| url.as_str().into()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::campaign::PostbackSecret;

    #[test]
    fn the_ingress_learns_no_secret() {
        let mut campaign = Campaign {
            campaign_id: 18,
            version: 3,
            secret: Some(PostbackSecret::parse("0123456789abcdef").unwrap()),
            ..Campaign::default()
        };
        campaign.settings.tracking_url =
            Some(TrackingUrl::parse("https://shop.example/?c={clickid}").unwrap());
        let record = CampaignRecord::from(&campaign);
        let text = String::from_utf8(record.encode()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"campaign_id":18,"version":3,"status":"active","tracking_url":"https://shop.example/?c={clickid}"}"#
        );
        assert_eq!(CampaignRecord::decode(text.as_bytes()), Ok(record));
        let bad = text.replace("https", "ftp");
        let error = CampaignRecord::decode(bad.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("tracking_url"), "{error}");
    }
}
