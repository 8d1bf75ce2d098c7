//! What an answer says, held against what was sent.

use crate::client::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

/// How a postback was answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The standard conversion, with the values that were sent.
    Standard,
    /// A duplicate. No postback of a run is one.
    Duplicate,
    /// Durable, the verdict was not in yet.
    Queued,
    /// A click that had been acknowledged is called unknown.
    NotFound,
    /// An error answer, or none at all.
    Error,
    /// Anything else: other values, another shape, status and body that contradict each other.
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

/// What the answer to a postback must say.
#[derive(Debug)]
pub struct Expected<'a> {
    pub clickid: &'a str,
    pub campaign_id: i64,
    /// As it was sent: digits, a point, two digits.
    pub revenue: &'a str,
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

/// Judges an answer; where it isn't the standard one, with a few words on why.
pub fn judge(response: &Response, expected: &Expected<'_>) -> (Kind, String) {
    let Ok(body) = serde_json::from_slice::<Body<'_>>(&response.body) else {
        return (Kind::Wrong, format!("http {}, no JSON", response.status));
    };
    let kind = match (response.status, body.status, body.note, body.error) {
        (200, "ok", None, None) if body.is_standard(expected) => Kind::Standard,
        (200, "ok", Some("duplicate"), None) => Kind::Duplicate,
        (202, "ok", Some("queued"), None) if body.request_id.is_some() => Kind::Queued,
        (404, "error", None, Some("click_not_found")) => Kind::NotFound,
        (429 | 500..=599, "error", None, Some(_)) => Kind::Error,
        _ => Kind::Wrong,
    };
    let why = match kind {
        Kind::Standard => String::new(),
        Kind::Wrong => format!(
            "http {}: {}",
            response.status,
            String::from_utf8_lossy(&response.body)
        ),
        _ => format!(
            "http {} {}",
            response.status,
            body.error.or(body.note).unwrap_or_default()
        ),
    };
    (kind, why)
}

impl Body<'_> {
    fn is_standard(&self, expected: &Expected<'_>) -> bool {
        let revenue = expected.revenue.trim_end_matches('0').trim_end_matches('.');
        self.clickid == Some(expected.clickid)
            && self.campaign_id == Some(expected.campaign_id)
            && self.revenue.map(RawValue::get) == Some(revenue)
            && self.currency == Some("USD")
            && self.created_at.is_some_and(|at| at.len() == 19)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str, revenue: &str) -> Kind {
        let response = Response {
            status,
            body: body.into(),
        };
        let expected = Expected {
            clickid: "a",
            campaign_id: 18,
            revenue,
        };
        judge(&response, &expected).0
    }

    #[test]
    fn only_the_values_that_were_sent_are_standard() {
        let body = |revenue: &str| {
            format!(
                r#"{{"status":"ok","clickid":"a","campaign_id":18,"revenue":{revenue},"currency":"USD","created_at":"2025-11-26 14:32:10"}}"#
            )
        };
        assert_eq!(kind(200, &body("1.2"), "1.20"), Kind::Standard);
        assert_eq!(kind(200, &body("0"), "0.00"), Kind::Standard);
        assert_eq!(kind(200, &body("10"), "10.00"), Kind::Standard);
        assert_eq!(kind(200, &body("1.20"), "1.20"), Kind::Wrong);
        assert_eq!(kind(200, &body("1.2000000000000002"), "1.20"), Kind::Wrong);
        assert_eq!(kind(202, &body("1.2"), "1.20"), Kind::Wrong);
        let other = body("1.2").replace("\"a\"", "\"b\"");
        assert_eq!(kind(200, &other, "1.20"), Kind::Wrong);
    }

    #[test]
    fn the_other_answers_are_told_apart() {
        for (status, body, expected) in [
            (
                200,
                r#"{"status":"ok","note":"duplicate"}"#,
                Kind::Duplicate,
            ),
            (
                202,
                r#"{"status":"ok","note":"queued","request_id":"x"}"#,
                Kind::Queued,
            ),
            (202, r#"{"status":"ok","note":"queued"}"#, Kind::Wrong),
            (
                404,
                r#"{"status":"error","error":"click_not_found"}"#,
                Kind::NotFound,
            ),
            (
                503,
                r#"{"status":"error","error":"internal_error"}"#,
                Kind::Error,
            ),
            (
                200,
                r#"{"status":"error","error":"internal_error"}"#,
                Kind::Wrong,
            ),
            (200, "ok", Kind::Wrong),
        ] {
            assert_eq!(kind(status, body, "1.00"), expected, "{status} {body}");
        }
    }
}
