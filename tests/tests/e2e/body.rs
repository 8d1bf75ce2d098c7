//! Answer bodies as the API page has them, written out by hand.

use postern_tests::Answer;

/// The body of a standard conversion; `created_at` is the answer's own, after a look at its form.
#[track_caller]
pub fn converted(answer: &Answer, clickid: &str, campaign: i64, revenue: &str, currency: &str) {
    let created_at = answer.json()["created_at"].to_string();
    assert!(is_time(created_at.trim_matches('"')), "{answer:?}");
    answer.is(
        200,
        &format!(
            r#"{{"status":"ok","clickid":"{clickid}","campaign_id":{campaign},"revenue":{revenue},"currency":"{currency}","created_at":{created_at}}}"#
        ),
    );
}

/// The body of a duplicate.
pub fn duplicate(clickid: &str, campaign: i64, revenue: &str, currency: &str) -> String {
    format!(
        r#"{{"status":"ok","note":"duplicate","message":"Conversion for this clickid already exists","clickid":"{clickid}","campaign_id":{campaign},"revenue":{revenue},"currency":"{currency}"}}"#
    )
}

pub const CLICK_NOT_FOUND: &str = r#"{"status":"error","error":"click_not_found","message":"Click with this clickid was not found"}"#;
pub const MISSING_CLICKID: &str =
    r#"{"status":"error","error":"missing_clickid","message":"clickid parameter is required"}"#;
pub const INTERNAL_ERROR: &str =
    r#"{"status":"error","error":"internal_error","message":"Unexpected server error"}"#;

/// `2025-11-26 14:32:10`
pub fn is_time(text: &str) -> bool {
    let form: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    form == "0000-00-00 00:00:00"
}

/// What every answer has.
#[track_caller]
pub fn has_common_headers(answer: &Answer) {
    assert_eq!(
        answer.header("cache-control"),
        Some("no-store"),
        "{answer:?}"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{answer:?}"
    );
    let id = answer.request_id();
    assert!(id.len() == 36 && id.as_bytes()[14] == b'7', "{answer:?}");
}
