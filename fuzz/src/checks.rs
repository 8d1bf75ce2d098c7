//! What holds whatever the bytes are: of the parsers that read what anybody may send, of the records
//! that anybody with access to Kafka may write, and of cursors. A target of cargo-fuzz each; the
//! tests of postern-core run them over `corpus/`.

use jiff::Timestamp;
use postern_core::answer;
use postern_core::check::check;
use postern_core::cursor;
use postern_core::ids::RequestId;
use postern_core::record::campaign::CampaignRecord;
use postern_core::record::click::{Click, ClickRecord};
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::{Origin, Postback, ReplyTo};
use postern_core::record::reject::Reject;
use postern_core::record::verdict::VerdictBatch;
use postern_core::request::{BodyKind, Incoming, InvalidRevenue, Rules, hint, understand};

/// A query, as it stands behind the question mark.
pub fn query(data: &[u8]) {
    request(data, None);
}

/// A form, behind a query that ends at the first line's end.
pub fn form(data: &[u8]) {
    with_body(BodyKind::Form, data);
}

/// A JSON body, likewise.
pub fn json(data: &[u8]) {
    with_body(BodyKind::Json, data);
}

fn with_body(kind: BodyKind, data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == b'\n');
    let (query, body) = match cut {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&b""[..], data),
    };
    request(query, Some((kind, body)));
}

fn request(query: &[u8], body: Option<(BodyKind, &[u8])>) {
    let incoming = Incoming { query, body };
    for invalid_revenue in [
        InvalidRevenue::Reject,
        InvalidRevenue::Zero,
        InvalidRevenue::Php,
    ] {
        let rules = Rules {
            invalid_revenue,
            ..Rules::default()
        };
        let checked = check(&incoming, &rules);
        is_an_answer(&checked.body);
        match understand(&incoming, &rules) {
            Ok(fields) => {
                assert_eq!(checked.refused, None);
                let id = RequestId::parse("0193ab1e-7c5a-7000-8000-000000000001");
                let origin = Origin {
                    method: "GET".to_owned(),
                    raw_query: String::from_utf8_lossy(query).into_owned(),
                    raw_body: String::new(),
                    address: "192.0.2.1".to_owned(),
                    user_agent: String::new(),
                };
                let postback =
                    Postback::new(id.expect("an id"), Timestamp::UNIX_EPOCH, fields, origin);
                let bytes = postback.encode();
                assert_eq!(Postback::decode(&bytes).as_ref(), Ok(&postback));
                is_an_answer(&answer::queued(
                    postback.request_id,
                    &postback.clickid,
                    &postback.warnings,
                ));
            }
            Err(refusal) => {
                assert_eq!(checked.refused, Some(refusal.code()));
                is_an_answer(&answer::refused(
                    &refusal,
                    hint(&incoming, &refusal).as_deref(),
                ));
            }
        }
    }
}

/// One line of JSON.
fn is_an_answer(body: &[u8]) {
    assert!(body.iter().all(|byte| *byte >= b' '));
    let value: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    assert!(matches!(value["status"].as_str(), Some("ok" | "error")));
}

/// A record of any topic: what is read is written as something that is read as the same.
pub fn record(data: &[u8]) {
    let at = Timestamp::UNIX_EPOCH;
    if let Ok(click) = Click::decode(data, at) {
        assert_eq!(Click::decode(&click.encode(), at).as_ref(), Ok(&click));
    }
    let _ = ClickRecord::decode(data, at);
    if let Ok(postback) = Postback::decode(data) {
        assert_eq!(Postback::decode(&postback.encode()).as_ref(), Ok(&postback));
    }
    if let Ok(verdicts) = VerdictBatch::decode(data) {
        let again = VerdictBatch::decode(&verdicts.encode());
        assert_eq!(again.as_ref(), Ok(&verdicts));
    }
    if let Ok(reject) = Reject::decode(data) {
        assert_eq!(Reject::decode(&reject.encode()).as_ref(), Ok(&reject));
    }
    if let Ok(campaign) = CampaignRecord::decode(data) {
        let again = CampaignRecord::decode(&campaign.encode());
        assert_eq!(again.as_ref(), Ok(&campaign));
    }
    if let Ok(conversion) = Conversion::decode(data) {
        let again = Conversion::decode(&conversion.encode());
        assert_eq!(again.as_ref(), Ok(&conversion));
    }
    let _ = ReplyTo::parse(data);
}

/// A cursor is what was written, or it is refused.
pub fn cursor(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(place) = cursor::read(b'c', text)
    {
        assert_eq!(cursor::write(b'c', place), text.to_lowercase());
    }
}
