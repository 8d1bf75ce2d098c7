//! Postbacks out of records, and which of them are wanted.

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use postern_core::record::postback::{MAX_RAW_BODY_BYTES, MAX_RAW_QUERY_BYTES, Origin, Postback};
use postern_core::record::reject::{Reject, Source as Rejected};
use postern_core::request::{BodyKind, Incoming, Refusal, Rules, understand};
use postern_kafka::{POSTBACKS, Record};

/// What a record is, as far as filters ask.
pub struct Facts {
    pub received_at: Timestamp,
    request_id: String,
    address: String,
    clickid: String,
    /// What it was refused for, where it was.
    reason: String,
}

/// A postback to replay, or why there is none.
pub struct Source {
    pub facts: Facts,
    pub postback: Result<Postback, String>,
}

impl Source {
    fn of(mut postback: Postback, reason: String) -> Self {
        postback.replayed = true;
        Self {
            facts: Facts {
                received_at: postback.received_at,
                request_id: postback.request_id.to_string(),
                address: postback.origin.address.clone(),
                clickid: postback.clickid.to_string(),
                reason,
            },
            postback: Ok(postback),
        }
    }

    fn none(why: &str, received_at: Timestamp) -> Self {
        Self {
            facts: Facts {
                received_at,
                request_id: String::new(),
                address: String::new(),
                clickid: String::new(),
                reason: String::new(),
            },
            postback: Err(why.to_owned()),
        }
    }
}

const UNREADABLE: &str = "can't be read";

/// Of the topic of postbacks.
pub fn of_postback(record: &Record) -> Source {
    match Postback::decode(&record.value) {
        Ok(postback) => Source::of(postback, String::new()),
        Err(_) => Source::none(UNREADABLE, record.appended_at),
    }
}

/// Of the topic of rejects: what was a postback already is one again; what was refused as a request
/// is read anew, by the rules of now.
pub fn of_reject(record: &Record, rules: &Rules) -> Source {
    let Ok(reject) = Reject::decode(&record.value) else {
        return Source::none(UNREADABLE, record.appended_at);
    };
    if let Some(record) = &reject.record {
        if record.topic != POSTBACKS {
            return Source::none("are no postbacks", reject.received_at);
        }
        let postback = whole(record).and_then(|value| Postback::decode(value.as_bytes()).ok());
        return match postback {
            Some(postback) => Source::of(postback, reject.reason),
            None => Source::none(UNREADABLE, reject.received_at),
        };
    }
    let Some(origin) = reject.request.clone() else {
        return Source::none(UNREADABLE, reject.received_at);
    };
    let address = origin.address.clone();
    match read_anew(&reject, origin, rules) {
        Ok(postback) => Source::of(postback, reject.reason),
        Err(why) => {
            let mut source = Source::none(&why, reject.received_at);
            source.facts.request_id = reject.request_id.to_string();
            source.facts.address = address;
            source.facts.reason = reject.reason;
            source
        }
    }
}

fn read_anew(reject: &Reject, origin: Origin, rules: &Rules) -> Result<Postback, String> {
    let stays = |code: &str| format!("stay refused: {code}");
    if !stands_whole(&reject.reason, &origin) {
        return Err(stays(&reject.reason));
    }
    let incoming = Incoming {
        query: origin.raw_query.as_bytes(),
        body: body(&origin)?.map(|kind| (kind, origin.raw_body.as_bytes())),
    };
    let fields = understand(&incoming, rules).map_err(|refusal| stays(refusal.code()))?;
    Ok(Postback::new(
        reject.request_id,
        reject.received_at,
        fields,
        origin,
    ))
}

/// Whether all that was sent stands in the record. What was turned down before it was read to its
/// end is missing its body, or the end of its query, and with it perhaps the revenue.
fn stands_whole(reason: &str, origin: &Origin) -> bool {
    // Cut at a character's boundary.
    let is_cut = origin.raw_query.len() + 4 > MAX_RAW_QUERY_BYTES;
    let was_read = Refusal::CODES.contains(&reason);
    let has_no_body = reason == "rate_limited" && origin.method == "GET";
    !is_cut && (was_read || has_no_body)
}

/// A record's value, where all of it was kept.
fn whole(record: &Rejected) -> Option<&str> {
    match record.value_bytes {
        None => record.value.as_deref(),
        Some(_) => None,
    }
}

/// What kind of body it had: its content type isn't kept. `None` where there was none.
fn body(origin: &Origin) -> Result<Option<BodyKind>, &'static str> {
    let text = origin.raw_body.trim_start();
    // What was cut or replaced for the log isn't what was sent.
    if text.contains('\u{fffd}') || origin.raw_body.len() >= MAX_RAW_BODY_BYTES {
        return Err("stay refused: their bodies were not kept whole");
    }
    Ok(match text.as_bytes().first() {
        None => None,
        Some(b'{') => Some(BodyKind::Json),
        Some(_) => Some(BodyKind::Form),
    })
}

/// Which postbacks are wanted: all of these must fit.
#[derive(Default)]
pub struct Filters {
    clickid: Option<String>,
    request_id: Option<String>,
    address: Option<String>,
    reason: Option<String>,
    outcome: Option<String>,
    campaign_id: Option<i64>,
}

impl Filters {
    pub fn read(given: &[String]) -> anyhow::Result<Self> {
        let mut filters = Self::default();
        for text in given {
            let (name, value) = text
                .split_once('=')
                .with_context(|| format!("--filter {text}: must be NAME=VALUE"))?;
            let value = value.to_owned();
            match name {
                "clickid" => filters.clickid = Some(value),
                "request_id" => filters.request_id = Some(value),
                "address" => filters.address = Some(value),
                "reason" => filters.reason = Some(value),
                "outcome" => filters.outcome = Some(value),
                "campaign_id" => {
                    let id = value.parse().with_context(|| format!("--filter {text}"))?;
                    filters.campaign_id = Some(id);
                }
                _ => bail!(
                    "--filter {name}: must be clickid, request_id, address, reason, outcome or \
                     campaign_id"
                ),
            }
        }
        Ok(filters)
    }

    /// Whether it fits by itself.
    pub fn take(&self, facts: &Facts) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|one| one == is);
        fits(&self.clickid, &facts.clickid)
            && fits(&self.request_id, &facts.request_id)
            && fits(&self.address, &facts.address)
            && fits(&self.reason, &facts.reason)
    }

    /// Whether what the store knows of it fits.
    pub fn take_known(&self, outcome: &str, campaign_id: Option<i64>) -> bool {
        self.outcome.as_ref().is_none_or(|wanted| wanted == outcome)
            && self
                .campaign_id
                .is_none_or(|wanted| campaign_id == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_core::ids::RequestId;

    /// A refusal of a request whose query would do, and whose body, if any, is not kept.
    fn again(reason: &str, method: &str, raw_query: String) -> Result<(), String> {
        let origin = Origin {
            method: method.to_owned(),
            raw_query,
            ..Origin::default()
        };
        let id = RequestId::parse("0193ab1e-7c5a-7000-8000-000000000001")
            .unwrap_or_else(|_| panic!("an id"));
        let now = Timestamp::UNIX_EPOCH;
        let reject = Reject::request(id, now, reason, String::new(), origin.clone());
        read_anew(&reject, origin, &Rules::default()).map(drop)
    }

    #[test]
    fn what_was_not_read_to_its_end_stays_refused() {
        let query = || "clickid=a".to_owned();
        assert_eq!(again("invalid_revenue", "GET", query()), Ok(()));
        assert_eq!(again("invalid_revenue", "POST", query()), Ok(()));
        assert_eq!(again("rate_limited", "GET", query()), Ok(()));
        for (reason, method) in [
            ("rate_limited", "POST"),
            ("body_too_large", "POST"),
            ("request_timeout", "POST"),
            ("bad_request", "POST"),
            ("uri_too_long", "GET"),
            ("method_not_allowed", "PUT"),
        ] {
            let stays = Err(format!("stay refused: {reason}"));
            assert_eq!(again(reason, method, query()), stays, "{reason}");
        }
        let long = format!("clickid=a&subid0={}", "s".repeat(MAX_RAW_QUERY_BYTES - 18));
        let stays = Err("stay refused: rate_limited".to_owned());
        assert_eq!(again("rate_limited", "GET", long), stays);
    }
}
