//! Answers' bodies, as far as the checker reads them.

use crate::checker::evidence::Conversion;
use crate::checker::exact;

pub(super) const NOT_FOUND: &str = r#"{"status":"error","error":"click_not_found","message":"m"}"#;

pub(super) fn standard_body(conversion: &Conversion) -> String {
    let created_at = exact::printed(conversion.created_at);
    let claim = claim_body(conversion);
    format!(r#"{{"status":"ok",{claim},"created_at":"{created_at}"}}"#)
}

pub(super) fn updated_body(conversion: &Conversion, status: &str) -> String {
    let claim = claim_body(conversion);
    format!(
        r#"{{"status":"ok","note":"updated","message":"m",{claim},"conversion_status":"{status}"}}"#
    )
}

pub(super) fn error_body(code: &str) -> String {
    format!(r#"{{"status":"error","error":"{code}","message":"m"}}"#)
}

pub(super) fn duplicate_body(conversion: &Conversion) -> String {
    let claim = claim_body(conversion);
    format!(r#"{{"status":"ok","note":"duplicate","message":"m",{claim}}}"#)
}

fn claim_body(conversion: &Conversion) -> String {
    let (whole, rest) = (conversion.micros / 1_000_000, conversion.micros % 1_000_000);
    format!(
        r#""clickid":"{}","campaign_id":{},"revenue":{whole}.{rest:06},"currency":"{}""#,
        conversion.clickid, conversion.campaign_id, conversion.currency
    )
}
