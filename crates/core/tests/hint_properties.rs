//! Properties of hints: whatever comes in, they are few, printable, and no hint proposes a field
//! that has a value already.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use postern_core::check::check;
use postern_core::money::Revenue;
use postern_core::request::query::parse_str;
use postern_core::request::{BodyKind, Incoming, Rules, hint, remarks, understand};

/// Ours and those that people take them for, damaged or not.
const NAMES: &str = "(amp;)?(clickid|click_id|Click-ID|cid|clikid|subid|sub[1-6]|subid[0-5]|revenue|\
                     payout|cost|Amount|revenu|currency|ccy|txid|tid|transaction_id|external_id|\
                     order\\.id|event|goal|event_name|status|type|state|sig|[a-z_é-]{1,9})(\\[\\])?";

/// The fields of the API page, each with its names.
const FIELDS: [&[&str]; 11] = [
    &["clickid", "click_id"],
    &["revenue", "payout", "cost"],
    &["currency"],
    &["txid", "tid", "transaction_id"],
    &["event", "goal"],
    &["status", "type"],
    &["subid0"],
    &["subid1"],
    &["subid2"],
    &["subid3"],
    &["subid4"],
];

fn encoded() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        "[a-z0-9]{1,5}",
        " {0,2}",
        "[$€]?[0-9]{1,4}([., '][0-9]{1,4}){0,3}( ?[A-Z]{2,3})?",
        "(\\{|\\[|##|\\$\\{)[a-z]{1,4}(\\}|\\]|##)",
    ];
    let value = prop_oneof![
        8 => value.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let pair = (NAMES, value).prop_map(|(name, value)| [name.as_bytes(), b"=", &value].concat());
    let pairs = prop::collection::vec(pair, 0..9).prop_map(|pairs| pairs.join(&b'&'));
    prop_oneof![9 => pairs, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// Whether a name has a value, by another way than the one that is tested.
fn is_filled(sent: &[&[u8]], name: &str) -> bool {
    let mut value = None;
    for encoded in sent {
        let parsed = parse_str(encoded);
        let scalars = parsed.scalars();
        value = scalars
            .get(name.as_bytes())
            .map(|found| found.to_vec())
            .or(value);
    }
    value.is_some_and(|value| value.iter().any(|byte| !b" \t\n\x0b\x0c\r".contains(byte)))
}

/// The name that a hint proposes instead of another.
fn proposed(hint: &str) -> Option<&str> {
    let (_, rest) = hint
        .split_once("; did you mean \"")
        .or_else(|| hint.split_once(" before \""))?;
    rest.split('"').next()
}

fn check_hint(hint: &str, sent: &[&[u8]]) {
    assert!(
        hint.len() < 1_500 && !hint.contains(char::is_control),
        "{hint:?}"
    );
    let Some(name) = proposed(hint) else { return };
    let field = FIELDS.iter().find(|names| names.contains(&name));
    for name in *field.unwrap_or_else(|| panic!("{hint} proposes what isn't ours")) {
        assert!(!is_filled(sent, name), "{hint}, but {name} has a value");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_192, failure_persistence: None, ..Default::default() })]

    #[test]
    fn hints_are_few_and_propose_only_what_is_missing(
        query in encoded(), body in prop::option::of(encoded()),
    ) {
        let incoming = Incoming {
            query: &query,
            body: body.as_ref().map(|body| (BodyKind::Form, &body[..])),
        };
        let sent: Vec<&[u8]> = std::iter::once(&query).chain(&body).map(|bytes| &bytes[..]).collect();
        let remarks = remarks(&incoming);
        prop_assert!(remarks.hints.len() <= 5);
        prop_assert!(remarks.ignored.len() <= 20);
        for (index, name) in remarks.ignored.iter().enumerate() {
            prop_assert!(name.chars().count() <= 64 && !remarks.ignored[..index].contains(name));
            prop_assert!(name != "sig" && !FIELDS.concat().contains(&&**name));
        }
        for hint in &remarks.hints {
            check_hint(hint, &sent);
        }
        let rules = Rules::default();
        let checked = check(&incoming, &rules);
        let told: serde_json::Value = serde_json::from_slice(&checked.body).unwrap();
        match understand(&incoming, &rules) {
            Ok(_) => {
                prop_assert_eq!(checked.refused, None);
                prop_assert_eq!(told["hints"].as_array().map_or(0, Vec::len), remarks.hints.len());
            }
            Err(refusal) => {
                let hint = hint(&incoming, &refusal);
                prop_assert_eq!(checked.refused, Some(refusal.code()));
                prop_assert_eq!(told["hint"].as_str(), hint.as_deref());
                prop_assert_eq!(hint.is_some(), !remarks.hints.is_empty());
                hint.iter().for_each(|hint| check_hint(hint, &sent));
            }
        }
    }

    #[test]
    fn any_body_has_hints_or_not(body in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec((NAMES, any::<String>()), 0..9).prop_map(|pairs| {
            let pairs: serde_json::Map<_, _> =
                pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
            serde_json::to_vec(&pairs).unwrap()
        }),
    ]) {
        let incoming = Incoming { query: b"", body: Some((BodyKind::Json, &body)) };
        let checked = check(&incoming, &Rules::default());
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&checked.body).is_ok());
        for hint in remarks(&incoming).hints {
            check_hint(&hint, &[]);
        }
    }

    /// What is proposed for a wrong revenue is a right one.
    #[test]
    fn an_amount_is_proposed_as_it_can_be_sent(
        value in "[$€£]?[0-9]{0,4}([., '’][0-9]{1,4}){0,4}( ?(EUR|[a-z]{1,4}|€))?",
    ) {
        let query = format!("clickid=a&revenue={value}").replace('+', "%2B");
        let incoming = Incoming { query: query.as_bytes(), body: None };
        let Err(refusal) = understand(&incoming, &Rules::default()) else { return Ok(()) };
        let Some(hint) = hint(&incoming, &refusal) else { return Ok(()) };
        let (_, proposed) = hint.rsplit_once("\" as ").unwrap();
        let amount = proposed.split([' ']).next().unwrap().trim_end_matches(',');
        prop_assert!(Revenue::parse(amount).is_ok(), "{}", hint);
        // The same digits, but for a zero before the point.
        let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
        let (sent, proposed) = (digits(&value), digits(amount));
        prop_assert!(proposed == sent || proposed == format!("0{sent}"), "{}", hint);
    }
}
