//! Answer bodies, field by field in the order of the public API page.

use crate::ids::{ClickId, RequestId};
use crate::record::verdict::{Forbidden, Outcome};
use crate::request::{Fields, Refusal, Remarks, Warning};
use std::fmt::Display;

/// Message of `click_not_found`.
pub const CLICK_NOT_FOUND: &str = "Click with this clickid was not found";
/// Message of `click_expired`.
pub const CLICK_EXPIRED: &str = "Click with this clickid is too old to convert";
/// The one sentence that a caller gets for whatever went wrong inside.
pub const INTERNAL_ERROR: &str = "Unexpected server error";

/// The body that tells `outcome`. Warnings come last, and only when there are any.
#[must_use]
pub fn of(outcome: &Outcome, clickid: &ClickId, warnings: &[Warning]) -> Vec<u8> {
    match outcome {
        Outcome::Converted {
            campaign_id,
            revenue,
            currency,
            created_at,
        } => Body::new("ok")
            .text("clickid", clickid.as_str())
            .number("campaign_id", campaign_id)
            .number("revenue", revenue)
            .text("currency", currency.as_str())
            .text("created_at", &crate::time::api(*created_at))
            .warnings(warnings)
            .finish(),
        Outcome::Duplicate {
            campaign_id,
            revenue,
            currency,
        } => Body::new("ok")
            .text("note", "duplicate")
            .text("message", "Conversion for this clickid already exists")
            .text("clickid", clickid.as_str())
            .number("campaign_id", campaign_id)
            .number("revenue", revenue)
            .text("currency", currency.as_str())
            .warnings(warnings)
            .finish(),
        Outcome::Updated {
            campaign_id,
            revenue,
            currency,
            status,
        } => Body::new("ok")
            .text("note", "updated")
            .text("message", "Status of the conversion was changed")
            .text("clickid", clickid.as_str())
            .number("campaign_id", campaign_id)
            .number("revenue", revenue)
            .text("currency", currency.as_str())
            .text("conversion_status", status.word())
            .warnings(warnings)
            .finish(),
        Outcome::ClickNotFound => error_with("click_not_found", CLICK_NOT_FOUND, warnings),
        Outcome::ClickExpired { .. } => error_with("click_expired", CLICK_EXPIRED, warnings),
        Outcome::Forbidden { reason, .. } => error_with("forbidden", forbidden(*reason), warnings),
    }
}

/// What a caller has to change.
fn forbidden(reason: Forbidden) -> &'static str {
    match reason {
        Forbidden::Address => "This campaign takes no postbacks from your address",
        Forbidden::SignatureMissing => {
            "This campaign takes signed postbacks only: sig parameter is required"
        }
        Forbidden::SignatureWrong => "sig is not the signature of this postback's parameters",
    }
}

/// The body of a postback that is durable while its verdict isn't in yet.
#[must_use]
pub fn queued(request_id: RequestId, clickid: &ClickId, warnings: &[Warning]) -> Vec<u8> {
    Body::new("ok")
        .text("note", "queued")
        .text(
            "message",
            "Postback is stored, its outcome follows: GET /v1/postback/status?request_id=",
        )
        .text("request_id", &request_id.to_string())
        .text("clickid", clickid.as_str())
        .warnings(warnings)
        .finish()
}

/// An error's body.
#[must_use]
pub fn error(code: &str, message: &str) -> Vec<u8> {
    error_with(code, message, &[])
}

/// The body of a postback that no record could be made of. The hint comes last, and only when
/// there is one.
#[must_use]
pub fn refused(refusal: &Refusal, hint: Option<&str>) -> Vec<u8> {
    let body = Body::new("error")
        .text("error", refusal.code())
        .text("message", &refusal.message());
    match hint {
        Some(hint) => body.text("hint", hint),
        None => body,
    }
    .finish()
}

/// The body of a check: the fields as they were understood.
#[must_use]
pub fn understood(fields: &Fields, remarks: &Remarks) -> Vec<u8> {
    let mut body = Body::new("ok")
        .text("clickid", fields.clickid.as_str())
        .number("revenue", &fields.revenue)
        .text("currency", fields.currency.as_str())
        .number("currency_sent", &fields.currency_sent)
        .value("external_id", &fields.external_id)
        .value("event", &fields.event)
        .value("conversion_status", &fields.status);
    for (number, subid) in fields.subids.iter().enumerate() {
        body = body.value(&format!("subid{number}"), subid);
    }
    let body = body
        .number("signed", &fields.signature.is_some())
        .value("ignored", &remarks.ignored)
        .warnings(&fields.warnings);
    match remarks.hints.is_empty() {
        true => body,
        false => body.value("hints", &remarks.hints),
    }
    .finish()
}

fn error_with(code: &str, message: &str, warnings: &[Warning]) -> Vec<u8> {
    Body::new("error")
        .text("error", code)
        .text("message", message)
        .warnings(warnings)
        .finish()
}

/// A JSON object written field by field, so that the order is the page's and money is never a
/// float.
pub struct Body(Vec<u8>);

impl Body {
    /// Starts with `status`.
    #[must_use]
    pub fn new(status: &str) -> Self {
        Self::empty().text("status", status)
    }

    /// Starts with nothing: an object inside an answer.
    #[must_use]
    pub fn empty() -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(b'{');
        Self(bytes)
    }

    /// A string field.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.json(value);
        self
    }

    /// A number or boolean field, printed as `value` displays it.
    #[must_use]
    pub fn number(mut self, name: &str, value: &impl Display) -> Self {
        use std::io::Write as _;
        self.name(name);
        // Writing into a Vec can't fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// A field of texts, lists of them, or nothing: no numbers, which must not become floats.
    fn value<T: serde::Serialize>(mut self, name: &str, value: &T) -> Self {
        self.name(name);
        self.json(value);
        self
    }

    /// A field whose value is JSON already.
    #[must_use]
    pub fn raw(mut self, name: &str, json: &[u8]) -> Self {
        self.name(name);
        self.0.extend_from_slice(json);
        self
    }

    /// The `warnings` array, only when there are any.
    #[must_use]
    pub fn warnings(mut self, warnings: &[Warning]) -> Self {
        if !warnings.is_empty() {
            self.name("warnings");
            self.json(warnings);
        }
        self
    }

    /// Closes the object.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.json(name);
        self.0.push(b':');
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Strings and warnings always serialise, and a Vec always takes them.
        let _ = serde_json::to_writer(&mut self.0, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::currency::Currency;
    use crate::money::Revenue;
    use crate::request::{Incoming, Rules};
    use crate::status::Status;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    /// The bodies of the API page, to the letter but for its blanks, and those beside it.
    #[test]
    fn bodies_are_those_of_the_api_page() {
        let clickid = ClickId::parse(b"22d69d308430f3eaaa569df11e17fb36").unwrap();
        let revenue = Revenue::parse("1.230").unwrap();
        let currency = Currency::default();
        assert_eq!(
            text(of(
                &Outcome::Converted {
                    campaign_id: 18,
                    revenue,
                    currency: currency.clone(),
                    created_at: "2025-11-26T14:32:10Z".parse().unwrap(),
                },
                &clickid,
                &[]
            )),
            r#"{"status":"ok","clickid":"22d69d308430f3eaaa569df11e17fb36","campaign_id":18,"revenue":1.23,"currency":"USD","created_at":"2025-11-26 14:32:10"}"#
        );
        assert_eq!(
            text(of(
                &Outcome::Duplicate {
                    campaign_id: 18,
                    revenue,
                    currency,
                },
                &clickid,
                &[]
            )),
            r#"{"status":"ok","note":"duplicate","message":"Conversion for this clickid already exists","clickid":"22d69d308430f3eaaa569df11e17fb36","campaign_id":18,"revenue":1.23,"currency":"USD"}"#
        );
        assert_eq!(
            text(of(
                &Outcome::Updated {
                    campaign_id: 18,
                    revenue,
                    currency: Currency::default(),
                    status: Status::Reversed,
                },
                &clickid,
                &[]
            )),
            r#"{"status":"ok","note":"updated","message":"Status of the conversion was changed","clickid":"22d69d308430f3eaaa569df11e17fb36","campaign_id":18,"revenue":1.23,"currency":"USD","conversion_status":"reversed"}"#
        );
        assert_eq!(
            text(of(
                &Outcome::ClickExpired { campaign_id: 18 },
                &clickid,
                &[]
            )),
            r#"{"status":"error","error":"click_expired","message":"Click with this clickid is too old to convert"}"#
        );
        let reason = Forbidden::SignatureWrong;
        let forbidden = Outcome::Forbidden {
            campaign_id: 18,
            reason,
        };
        assert_eq!(
            text(of(&forbidden, &clickid, &[])),
            r#"{"status":"error","error":"forbidden","message":"sig is not the signature of this postback's parameters"}"#
        );
        assert_eq!(
            text(of(&Outcome::ClickNotFound, &clickid, &[])),
            r#"{"status":"error","error":"click_not_found","message":"Click with this clickid was not found"}"#
        );
        assert_eq!(
            text(error("internal_error", INTERNAL_ERROR)),
            r#"{"status":"error","error":"internal_error","message":"Unexpected server error"}"#
        );
    }

    fn checked(query: &str) -> String {
        let incoming = Incoming {
            query: query.as_bytes(),
            body: None,
        };
        text(check(&incoming, &Rules::default()).body)
    }

    #[test]
    fn a_check_tells_the_fields_as_they_are_understood() {
        assert_eq!(
            checked("clickid=a&revenue=8999999999999.123456&subid1=%22&type=SALE&sig=0&foo=1"),
            r#"{"status":"ok","clickid":"a","revenue":8999999999999.123456,"currency":"USD","currency_sent":false,"external_id":null,"event":null,"conversion_status":{"word":"SALE","status":"approved"},"subid0":null,"subid1":"\"","subid2":null,"subid3":null,"subid4":null,"signed":true,"ignored":["foo"]}"#
        );
        assert_eq!(
            checked("clickid=a&currency=eur&tid=7&goal=x&status=odd&subid4=[S]&amount=5"),
            r#"{"status":"ok","clickid":"a","revenue":0,"currency":"EUR","currency_sent":true,"external_id":"7","event":"x","conversion_status":{"word":"odd","status":null},"subid0":null,"subid1":null,"subid2":null,"subid3":null,"subid4":"[S]","signed":false,"ignored":["amount"],"warnings":[{"code":"unresolved_macro","parameter":"subid4","message":"subid4 is the unresolved macro \"[S]\"; stored as it is"}],"hints":["you sent \"amount\"; did you mean \"revenue\"?","the tracker that sends this did not replace the macro \"[S]\" in subid4; look up in its documentation what it calls this value, and put that into its postback URL"]}"#
        );
    }

    #[test]
    fn a_refusal_ends_with_its_hint() {
        assert_eq!(
            checked(""),
            r#"{"status":"error","error":"missing_clickid","message":"clickid parameter is required"}"#
        );
        assert_eq!(
            checked("cid=a"),
            r#"{"status":"error","error":"missing_clickid","message":"clickid parameter is required","hint":"you sent \"cid\"; did you mean \"clickid\"?"}"#
        );
    }
}
