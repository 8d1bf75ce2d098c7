//! What an answer says, read from its body alone; its code is held against that afterwards.

use super::exact;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The kinds of answers, and the lack of one.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerKind {
    Standard,
    Duplicate,
    Updated,
    Queued,
    ClickNotFound,
    ClickExpired,
    Forbidden,
    /// By the ingress.
    Refused,
    InternalError,
    NoAnswer,
    /// None of the documented bodies.
    Odd,
}

/// What a body claims of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub clickid: String,
    pub campaign_id: i64,
    /// Millionths, from the number's own digits.
    pub micros: i64,
    pub currency: String,
}

/// A body, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Standard {
        claim: Claim,
        created_at: String,
    },
    Duplicate(Claim),
    Updated {
        claim: Claim,
        status: String,
    },
    Queued {
        request_id: String,
        clickid: String,
    },
    ClickNotFound,
    ClickExpired,
    Forbidden,
    /// With the error's code.
    Refused(String),
    InternalError,
    /// With what is wrong with it.
    Odd(String),
}

impl Said {
    /// Reads a body.
    #[must_use]
    pub fn of(body: &str) -> Self {
        Self::read(body).unwrap_or_else(|| Self::Odd(format!("not a documented body: {body}")))
    }

    fn read(body: &str) -> Option<Self> {
        let fields: Fields<'_> = serde_json::from_str(body).ok()?;
        let text = |name| text(&fields, name);
        match (text("status")?.as_str(), text("note").as_deref()) {
            ("error", None) => Some(match text("error")?.as_str() {
                "click_not_found" => Self::ClickNotFound,
                "click_expired" => Self::ClickExpired,
                "forbidden" => Self::Forbidden,
                "internal_error" => Self::InternalError,
                code => Self::Refused(code.to_owned()),
            }),
            ("ok", None) => Some(Self::Standard {
                claim: claim(&fields)?,
                created_at: text("created_at")?,
            }),
            ("ok", Some("duplicate")) => Some(Self::Duplicate(claim(&fields)?)),
            ("ok", Some("updated")) => Some(Self::Updated {
                claim: claim(&fields)?,
                status: text("conversion_status")?,
            }),
            ("ok", Some("queued")) => Some(Self::Queued {
                request_id: text("request_id")?,
                clickid: text("clickid")?,
            }),
            _ => None,
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> AnswerKind {
        match self {
            Self::Standard { .. } => AnswerKind::Standard,
            Self::Duplicate(_) => AnswerKind::Duplicate,
            Self::Updated { .. } => AnswerKind::Updated,
            Self::Queued { .. } => AnswerKind::Queued,
            Self::ClickNotFound => AnswerKind::ClickNotFound,
            Self::ClickExpired => AnswerKind::ClickExpired,
            Self::Forbidden => AnswerKind::Forbidden,
            Self::Refused(_) => AnswerKind::Refused,
            Self::InternalError => AnswerKind::InternalError,
            Self::Odd(_) => AnswerKind::Odd,
        }
    }

    /// Whether `status` is the code that docs/DELIVERY.md gives to this body.
    #[must_use]
    pub fn belongs_to(&self, status: u16) -> bool {
        match self {
            Self::Standard { .. } | Self::Duplicate(_) | Self::Updated { .. } => status == 200,
            Self::Queued { .. } => status == 202,
            Self::ClickNotFound => status == 404,
            Self::ClickExpired => status == 410,
            Self::Forbidden => status == 403,
            Self::InternalError => matches!(status, 500 | 503),
            Self::Refused(code) => {
                status
                    == match code.as_str() {
                        "method_not_allowed" => 405,
                        "request_timeout" => 408,
                        "body_too_large" => 413,
                        "uri_too_long" => 414,
                        "unauthorized" => 401,
                        "not_found" => 404,
                        _ if status == 429 => 429,
                        _ => 400,
                    }
            }
            Self::Odd(_) => false,
        }
    }
}

/// The kind of an answer, or of none.
#[must_use]
pub fn kind(said: Option<&Said>) -> AnswerKind {
    said.map_or(AnswerKind::NoAnswer, Said::kind)
}

/// A status body, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub request_id: String,
    pub outcome: String,
    pub received_at: Option<String>,
    pub answer: Option<Said>,
}

impl Status {
    /// Reads a body; `None` for an error.
    #[must_use]
    pub fn of(body: &str) -> Option<Self> {
        let fields: Fields<'_> = serde_json::from_str(body).ok()?;
        Some(Self {
            request_id: text(&fields, "request_id")?,
            outcome: text(&fields, "outcome")?,
            received_at: text(&fields, "received_at"),
            answer: fields.get("answer").map(|raw| Said::of(raw.get())),
        })
    }
}

type Fields<'a> = BTreeMap<&'a str, &'a RawValue>;

fn text(fields: &Fields<'_>, name: &str) -> Option<String> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

fn claim(fields: &Fields<'_>) -> Option<Claim> {
    Some(Claim {
        clickid: text(fields, "clickid")?,
        campaign_id: fields.get("campaign_id")?.get().parse().ok()?,
        micros: exact::micros(fields.get("revenue")?.get())?,
        currency: text(fields, "currency")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_its_last_millionth() {
        let body = r#"{"status":"ok","clickid":"a","campaign_id":18,"revenue":8999999999999.999999,"currency":"USD","created_at":"2025-11-26 14:32:10"}"#;
        let Said::Standard { claim, .. } = Said::of(body) else {
            panic!("{body}");
        };
        assert_eq!(claim.micros, 8_999_999_999_999_999_999);
    }

    #[test]
    fn codes_belong_to_bodies() {
        let error = |code: &str| format!(r#"{{"status":"error","error":"{code}","message":"m"}}"#);
        assert!(Said::of(&error("click_not_found")).belongs_to(404));
        assert!(!Said::of(&error("click_not_found")).belongs_to(200));
        assert!(Said::of(&error("click_expired")).belongs_to(410));
        assert!(!Said::of(&error("click_expired")).belongs_to(404));
        assert!(Said::of(&error("forbidden")).belongs_to(403));
        assert!(!Said::of(&error("forbidden")).belongs_to(400));
        assert!(Said::of(&error("invalid_revenue")).belongs_to(400));
        assert!(Said::of(&error("internal_error")).belongs_to(503));
        assert!(!Said::of(&error("internal_error")).belongs_to(404));
        assert!(matches!(Said::of("{}"), Said::Odd(_)));
        assert!(matches!(
            Said::of(r#"{"status":"ok","note":"x"}"#),
            Said::Odd(_)
        ));
    }
}
