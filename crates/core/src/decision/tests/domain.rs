//! From a history's plain values to the domain's and back, for the decision's own tests and for
//! the store's contract.

use super::history::{self, Settings};
use super::model;
use jiff::Timestamp;
use postern_core::campaign::{
    Campaign, Dedupe, Mode, PostbackSecret, Settings as CampaignSettings, signature,
};
use postern_core::currency::Currency;
use postern_core::ids::{ClickId, RequestId};
use postern_core::money::Revenue;
use postern_core::record::click::Click;
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::{Origin, Postback};
use postern_core::record::verdict::Outcome;
use postern_core::request::Fields;
use postern_core::status::Said;

/// The beginning of a quarter.
const BEGINNING: i64 = 1_764_165_600;
const ID_ZERO: u128 = 0x0193_9b1e_7c5a_7000_8000_0000_0000_0000;
const NETWORK: &str = "192.0.2.0/24";
const SECRET: &str = "a-secret-of-the-histories";

pub fn minute_at(minute: u32) -> Timestamp {
    Timestamp::new(BEGINNING + i64::from(minute) * 60, 123_456_000).unwrap()
}

pub fn minute(time: Timestamp) -> u32 {
    let minute = u32::try_from((time.as_second() - BEGINNING) / 60).unwrap();
    assert_eq!(minute_at(minute), time);
    minute
}

pub fn request(number: u32) -> RequestId {
    RequestId::from_uuid(uuid::Uuid::from_u128(ID_ZERO + u128::from(number)))
}

pub fn number(id: RequestId) -> u32 {
    u32::try_from(id.as_uuid().as_u128() - ID_ZERO).unwrap()
}

fn clickid(name: &str) -> ClickId {
    name.parse().unwrap()
}

pub fn click(click: &history::Click) -> Click {
    Click::from_parts(
        clickid(&click.name),
        click.campaign,
        ["site", "source", "publisher", "log"].map(str::to_owned),
        minute_at(click.minute),
    )
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub fn postback(one: &history::Postback) -> Postback {
    let query = format!("clickid={}", one.name);
    let signature = one.signed.map(|is_right| {
        let secret = if is_right {
            SECRET
        } else {
            "another-secret-of-theirs"
        };
        signature::Signature {
            sig: signature::sign(&PostbackSecret::parse(secret).unwrap(), &query),
            query: query.clone(),
        }
    });
    let status = given(one.status).map(|word| Said {
        status: word.parse().ok(),
        word,
    });
    let fields = Fields {
        clickid: clickid(&one.name),
        revenue: Revenue::from_micros(one.micros).unwrap(),
        revenue_raw: None,
        currency: Currency::normalize(one.currency),
        currency_sent: !one.currency.is_empty(),
        external_id: given(one.txid),
        subids: [Some(one.request.to_string()), None, None, None, None],
        event: given(one.event),
        status,
        signature,
        warnings: Vec::new(),
    };
    let address = if one.inside {
        "192.0.2.77"
    } else {
        "198.51.100.7"
    };
    let origin = Origin {
        method: "GET".to_owned(),
        raw_query: query,
        raw_body: String::new(),
        address: address.to_owned(),
        user_agent: String::new(),
    };
    Postback::new(request(one.request), minute_at(one.minute), fields, origin)
}

pub fn campaign(one: &Settings) -> Campaign {
    let mode = |watches| {
        if watches {
            Mode::Observe
        } else {
            Mode::Enforce
        }
    };
    let networks = one.inside.then(|| NETWORK.parse().unwrap());
    Campaign {
        campaign_id: one.campaign,
        version: one.version,
        settings: CampaignSettings {
            default_currency: Currency::normalize(one.currency),
            dedupe: Dedupe::of(one.dedupe).unwrap(),
            attribution_window: one.window.map(|minutes| minutes * 60),
            window_check: mode(one.watches_window),
            networks: networks.into_iter().collect(),
            network_check: mode(one.watches_callers),
            signature_check: mode(one.watches_callers),
            statuses: one.statuses.is_some(),
            default_status: one.statuses.unwrap_or("approved").parse().unwrap(),
            ..CampaignSettings::default()
        },
        secret: one.signed.then(|| PostbackSecret::parse(SECRET).unwrap()),
    }
}

pub fn plain_outcome(outcome: &Outcome) -> model::Outcome {
    match outcome.clone() {
        Outcome::Converted {
            campaign_id,
            revenue,
            currency,
            created_at,
        } => model::Outcome::Converted {
            campaign: campaign_id,
            micros: revenue.micros(),
            currency: currency.to_string(),
            minute: minute(created_at),
        },
        Outcome::Duplicate {
            campaign_id,
            revenue,
            currency,
        } => model::Outcome::Duplicate {
            campaign: campaign_id,
            micros: revenue.micros(),
            currency: currency.to_string(),
        },
        Outcome::Updated {
            campaign_id,
            revenue,
            currency,
            status,
        } => model::Outcome::Updated {
            campaign: campaign_id,
            micros: revenue.micros(),
            currency: currency.to_string(),
            status: status.word(),
        },
        Outcome::ClickNotFound => model::Outcome::ClickNotFound,
        Outcome::ClickExpired { campaign_id } => model::Outcome::ClickExpired {
            campaign: campaign_id,
        },
        Outcome::Forbidden {
            campaign_id,
            reason,
        } => model::Outcome::Forbidden {
            campaign: campaign_id,
            reason: reason.word(),
        },
    }
}

/// A conversion as it came: its own status.
pub fn plain_conversion(one: &Conversion, partition: i32, sequence: i64) -> model::Conversion {
    assert_eq!(one.status_id, one.conversion_id);
    assert_eq!(one.status_at, one.created_at);
    model::Conversion {
        id: number(one.conversion_id),
        name: one.clickid.to_string(),
        campaign: one.campaign_id,
        micros: one.revenue.micros(),
        currency: one.currency.to_string(),
        txid: one.external_key().to_owned(),
        event: one.event.clone(),
        dedupe: one.dedupe.word(),
        status: one.status.word(),
        created: minute(one.created_at),
        clicked: minute(one.clicked_at),
        version: one.policy_version,
        partition: size(partition.into()),
        sequence: size(sequence),
    }
}

pub fn size(number: i64) -> usize {
    usize::try_from(number).unwrap()
}
