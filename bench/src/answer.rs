//! What an answer says, held against what was sent.

use crate::client::Response;
use crate::set::{Aim, Set};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How a postback was answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The standard conversion, with the values that were sent.
    Standard,
    /// A duplicate, where it is one.
    Duplicate,
    /// Durable, the verdict was not in yet.
    Queued,
    /// No such click, where there is none.
    NotFound,
    /// An error answer, or none at all.
    Error,
    /// Anything else: another outcome than the truth, other values, another shape, status and body that contradict
    /// each other.
    Wrong,
}

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Standard,
        Self::Duplicate,
        Self::Queued,
        Self::NotFound,
        Self::Error,
        Self::Wrong,
    ];

    /// Its name in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Duplicate => "duplicate",
            Self::Queued => "queued",
            Self::NotFound => "not_found",
            Self::Error => "error",
            Self::Wrong => "wrong",
        }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    status: &'a str,
    note: Option<&'a str>,
    error: Option<&'a str>,
    clickid: Option<&'a str>,
    campaign_id: Option<i64>,
    /// To the letter: read as a float it would hide what it must not be.
    #[serde(borrow)]
    revenue: Option<&'a RawValue>,
    currency: Option<&'a str>,
    created_at: Option<&'a str>,
    request_id: Option<&'a str>,
}

/// Judges the answer to a postback; where it isn't a verdict, with a few words on why.
pub fn judge(response: &Response<'_>, set: Set, aim: Aim) -> (Kind, String) {
    let Ok(body) = serde_json::from_slice::<Body<'_>>(response.body) else {
        return (Kind::Wrong, format!("http {}, no JSON", response.status));
    };
    let kind = match (response.status, body.status, body.note, body.error) {
        (200, "ok", None, None) if body.is_standard(set, aim) => Kind::Standard,
        (200, "ok", Some("duplicate"), None) if matches!(aim, Aim::Again(_) | Aim::Same(_)) => {
            Kind::Duplicate
        }
        (202, "ok", Some("queued"), None) if body.request_id.is_some() => Kind::Queued,
        (404, "error", None, Some("click_not_found")) if matches!(aim, Aim::Unknown(_)) => {
            Kind::NotFound
        }
        (429 | 500..=599, "error", None, Some(_)) => Kind::Error,
        _ => Kind::Wrong,
    };
    let why = match kind {
        Kind::Standard | Kind::Duplicate | Kind::NotFound => String::new(),
        Kind::Wrong => format!(
            "{aim:?}: http {}: {}",
            response.status,
            String::from_utf8_lossy(response.body)
        ),
        Kind::Queued | Kind::Error => format!(
            "http {} {}",
            response.status,
            body.error.or(body.note).unwrap_or_default()
        ),
    };
    (kind, why)
}

impl Body<'_> {
    fn is_standard(&self, set: Set, aim: Aim) -> bool {
        let (Aim::First(number) | Aim::Same(number)) = aim else {
            return false;
        };
        let revenue = set.revenue(number);
        let revenue = revenue.trim_end_matches('0').trim_end_matches('.');
        self.clickid == Some(&set.clickid(number))
            && self.campaign_id == Some(set.campaign(number))
            && self.revenue.map(RawValue::get) == Some(revenue)
            && self.currency == Some("USD")
            && self.created_at.is_some_and(|at| at.len() == 19)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Set = Set { seed: 1 };

    fn kind(status: u16, body: &str, aim: Aim) -> Kind {
        let response = Response {
            status,
            body: body.as_bytes(),
        };
        judge(&response, SET, aim).0
    }

    /// Revenue 1.20 where `number` is 120.
    fn standard(number: u64, revenue: &str) -> String {
        format!(
            r#"{{"status":"ok","clickid":"{}","campaign_id":{},"revenue":{revenue},"currency":"USD","created_at":"2025-11-26 14:32:10"}}"#,
            SET.clickid(number),
            SET.campaign(number)
        )
    }

    #[test]
    fn only_the_values_that_were_sent_are_standard() {
        for (number, revenue) in [(120, "1.2"), (0, "0"), (101, "1.01"), (200, "2")] {
            let body = standard(number, revenue);
            assert_eq!(kind(200, &body, Aim::First(number)), Kind::Standard);
            assert_eq!(kind(200, &body, Aim::Same(number)), Kind::Standard);
            assert_eq!(kind(200, &body, Aim::First(number + 1)), Kind::Wrong);
            assert_eq!(kind(200, &body, Aim::Again(number)), Kind::Wrong);
            assert_eq!(kind(200, &body, Aim::Unknown(number)), Kind::Wrong);
            assert_eq!(kind(202, &body, Aim::First(number)), Kind::Wrong);
        }
        for other in ["1.20", "1.2000000000000002", "1.3"] {
            assert_eq!(
                kind(200, &standard(120, other), Aim::First(120)),
                Kind::Wrong
            );
        }
    }

    #[test]
    fn an_outcome_that_is_not_the_truth_is_wrong() {
        let duplicate = r#"{"status":"ok","note":"duplicate"}"#;
        let queued = r#"{"status":"ok","note":"queued","request_id":"x"}"#;
        let nameless = r#"{"status":"ok","note":"queued"}"#;
        let unknown = r#"{"status":"error","error":"click_not_found"}"#;
        let failed = r#"{"status":"error","error":"internal_error"}"#;
        for (status, body, aim, expected) in [
            (200, duplicate, Aim::Again(1), Kind::Duplicate),
            (200, duplicate, Aim::Same(1), Kind::Duplicate),
            (200, duplicate, Aim::First(1), Kind::Wrong),
            (200, duplicate, Aim::Unknown(1), Kind::Wrong),
            (404, unknown, Aim::Unknown(1), Kind::NotFound),
            (404, unknown, Aim::First(1), Kind::Wrong),
            (202, queued, Aim::First(1), Kind::Queued),
            (202, queued, Aim::Unknown(1), Kind::Queued),
            (202, nameless, Aim::First(1), Kind::Wrong),
            (503, failed, Aim::First(1), Kind::Error),
            (200, failed, Aim::First(1), Kind::Wrong),
            (200, "ok", Aim::First(1), Kind::Wrong),
        ] {
            assert_eq!(kind(status, body, aim), expected, "{status} {body} {aim:?}");
        }
    }
}
