//! Properties of the request: anything in gives a value or a named refusal, and what is printed
//! or encoded is read back.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use postern_core::currency::Currency;
use postern_core::ids::{ClickId, RequestId};
use postern_core::money::{Revenue, RevenueError};
use postern_core::request::query::parse_str;
use postern_core::request::{
    BodyKind, Fields, Incoming, InvalidRevenue, Refusal, Rules, STORED_BYTES, understand,
};

const CODES: [&str; 6] = [
    "missing_clickid",
    "invalid_clickid",
    "invalid_revenue",
    "unresolved_macro",
    "malformed_json",
    "too_many_parameters",
];

const NAMES: &str = "(clickid|click_id|revenue|payout|cost|currency|subid[0-5]|txid|tid|\
                     transaction_id|click\\.id|other)(\\[\\]|\\[|%00)?";

/// Bytes without structure, and queries whose values are any bytes.
fn query() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[-+]?[0-9]{0,20}[.,]?[0-9]{0,9}(e[-+]?[0-9]{1,4})?".prop_map(String::into_bytes),
        "(\\{|\\[|##|\\$\\{|%7B)[a-z]{0,4}(\\}|\\]|##|%7D)".prop_map(String::into_bytes),
        "[a€😀 \u{0}]{0,1100}".prop_map(String::into_bytes),
    ];
    let pair = (NAMES, value).prop_map(|(name, value)| [name.as_bytes(), b"=", &value].concat());
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(pair, 0..8).prop_map(|pairs| pairs.join(&b'&')),
    ]
}

/// JSON of known names, whole or cut off or with a byte changed, and anything else.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][-+]?[0-9]{1,4})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "(null|true|\\[\\]|\\{\"a\":\\[1\\]\\}|\"\\\\ud800\"|\"\\\\u0000\")",
    ];
    let pair = (NAMES, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let object = prop::collection::vec(pair, 0..8).prop_map(|pairs| pairs.join(","));
    let object = object.prop_map(|pairs| format!("{{{pairs}}}").into_bytes());
    let damaged = (
        object.clone(),
        any::<prop::sample::Index>(),
        any::<u8>(),
        any::<bool>(),
    );
    let damaged = damaged.prop_map(|(mut body, at, byte, cut)| {
        let at = at.index(body.len());
        body[at] = byte;
        body.truncate(if cut { at } else { body.len() });
        body
    });
    prop_oneof![object, damaged, prop::collection::vec(any::<u8>(), 0..200)]
}

fn body() -> impl Strategy<Value = Option<(BodyKind, Vec<u8>)>> {
    prop_oneof![
        Just(None),
        query().prop_map(|body| Some((BodyKind::Form, body))),
        json().prop_map(|body| Some((BodyKind::Json, body))),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let modes = [
        InvalidRevenue::Reject,
        InvalidRevenue::Zero,
        InvalidRevenue::Php,
    ];
    prop::sample::select(modes.to_vec()).prop_map(|invalid_revenue| Rules {
        invalid_revenue,
        ..Rules::default()
    })
}

fn check_text(text: &str) {
    assert!(
        text.len() <= STORED_BYTES && !text.contains('\0'),
        "{text:?}"
    );
}

fn check_fields(fields: &Fields) {
    let clickid = fields.clickid.as_str();
    assert!((1..=255).contains(&clickid.len()) && !clickid.contains(char::is_control));
    assert!((Revenue::ZERO..=Revenue::MAX).contains(&fields.revenue));
    assert!((1..=3).contains(&fields.currency.as_str().chars().count()));
    assert!(!fields.currency.as_str().contains('\0'));
    fields
        .subids
        .iter()
        .chain([&fields.external_id, &fields.revenue_raw])
        .flatten()
        .for_each(|text| check_text(text));
    assert!(
        fields
            .external_id
            .as_ref()
            .is_none_or(|id| !id.trim_ascii().is_empty())
    );
    for warning in &fields.warnings {
        assert!(!warning.code.is_empty() && !warning.parameter.is_empty());
        check_message(&warning.message);
    }
}

fn check_refusal(refusal: &Refusal, rules: &Rules) {
    assert!(CODES.contains(&refusal.code()), "{refusal:?}");
    check_message(&refusal.message());
    if refusal.code() == "invalid_revenue" {
        assert_eq!(rules.invalid_revenue, InvalidRevenue::Reject);
    }
}

fn check_message(message: &str) {
    assert!(!message.is_empty() && message.len() < 1_500, "{message:?}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

/// The sum of a decimal in millionths, half-even, by long arithmetic on the scaled integer.
fn half_even(mantissa: i128, scale: u32) -> i128 {
    let divisor = 10_i128.pow(scale);
    let (quotient, rest) = (
        mantissa * 1_000_000 / divisor,
        mantissa * 1_000_000 % divisor,
    );
    match (2 * rest).cmp(&divisor) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
        std::cmp::Ordering::Greater => quotient + 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_give_fields_or_a_named_refusal(
        query in query(), body in body(), rules in rules(),
    ) {
        let body = body.as_ref().map(|(kind, body)| (*kind, &body[..]));
        match understand(&Incoming { query: &query, body }, &rules) {
            Ok(fields) => check_fields(&fields),
            Err(refusal) => check_refusal(&refusal, &rules),
        }
    }

    #[test]
    fn what_is_encoded_is_read_back(
        pairs in prop::collection::vec(("[^\0 .\\[]{1,20}", prop::collection::vec(any::<u8>(), 0..20)), 0..10),
        plain in any::<bool>(),
    ) {
        let encode = |bytes: &[u8]| -> String {
            bytes.iter().map(|&byte| match byte {
                b' ' => "+".to_owned(),
                _ if plain && byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            }).collect()
        };
        let query: Vec<_> = pairs.iter()
            .map(|(name, value)| format!("{}={}", encode(name.as_bytes()), encode(value)))
            .collect();
        let query = query.join("&");
        let read: Vec<_> = parse_str(query.as_bytes()).into_parameters()
            .map(|parameter| (parameter.name.into_owned(), parameter.value.unwrap().into_owned()))
            .collect();
        let sent: Vec<_> =
            pairs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn form_and_json_say_the_same(
        clickid in "[a-zA-Z0-9\"\\\\é😀]{1,30}", subid in any::<String>(), units in 0..1_000_000_i64,
    ) {
        let json = serde_json::json!({"clickid": clickid, "subid0": subid, "revenue": units});
        let encode = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02x}")).collect() };
        let form =
            format!("clickid={}&subid0={}&revenue={units}", encode(&clickid), encode(&subid));
        let read = |kind, body: &[u8]| {
            understand(&Incoming { query: b"", body: Some((kind, body)) }, &Rules::default())
        };
        let by_form = read(BodyKind::Form, form.as_bytes());
        prop_assert_eq!(&by_form, &read(BodyKind::Json, json.to_string().as_bytes()));
        prop_assert!(by_form.is_ok());
    }

    #[test]
    fn a_revenue_is_read_as_it_is_printed(micros in 0..=Revenue::MAX.micros()) {
        let revenue = Revenue::from_micros(micros).unwrap();
        let printed = revenue.to_string();
        prop_assert_eq!(Revenue::parse(&printed), Ok(revenue));
        prop_assert!(!printed.contains(['e', '+', '-']));
        prop_assert!(!printed.contains('.') || !printed.ends_with(['0', '.']));
        prop_assert!(serde_json::from_str::<serde_json::Number>(&printed).is_ok());
        let json = serde_json::to_string(&revenue).unwrap();
        prop_assert_eq!(serde_json::from_str::<Revenue>(&json).unwrap(), revenue);
    }

    #[test]
    fn a_revenue_is_rounded_half_even(
        mantissa in 0..10_i128.pow(24), scale in 0..12_u32, shift in -30..30_i32, half in any::<bool>(),
    ) {
        // Every other one ends in a 5 behind the sixth digit: halves are rare by chance.
        let (mantissa, scale) =
            if half { (mantissa / 10_i128.pow(8) * 10 + 5, 7) } else { (mantissa, scale) };
        let exact = half_even(mantissa, scale);
        let expected = i64::try_from(exact).ok().and_then(Revenue::from_micros);
        let expected = expected.ok_or(RevenueError::TooLarge);
        // The same number with its point at any place and an exponent that moves it back.
        let exponent = -i64::from(scale) - i64::from(shift);
        let places = shift.unsigned_abs() as usize;
        let moved = if shift >= 0 {
            format!("{mantissa}{}e{exponent}", "0".repeat(places))
        } else {
            let padded = format!("{mantissa:0>40}");
            let (units, fraction) = padded.split_at(40 - places);
            format!("{units}.{fraction}e{exponent}")
        };
        prop_assert_eq!(Revenue::parse(&moved), expected, "{}", moved);
    }

    #[test]
    fn any_text_is_a_revenue_or_not(text in any::<String>()) {
        let _ = Revenue::parse(&text);
        let _ = RequestId::parse(&text);
    }

    #[test]
    fn a_clickid_is_read_as_it_is_printed(bytes in prop::collection::vec(any::<u8>(), 0..300), text in any::<String>()) {
        for bytes in [&bytes[..], text.as_bytes()] {
            let Ok(id) = ClickId::parse(bytes) else { continue };
            prop_assert_eq!(&ClickId::parse(id.as_str().as_bytes()).unwrap(), &id);
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<ClickId>(&json).unwrap(), id);
        }
    }

    #[test]
    fn a_currency_stays_what_it_is(text in any::<String>()) {
        let currency = Currency::normalize(&text);
        prop_assert_eq!(Currency::normalize(currency.as_str()), currency.clone());
        let json = serde_json::to_string(&currency).unwrap();
        prop_assert_eq!(serde_json::from_str::<Currency>(&json).unwrap(), currency);
    }

    #[test]
    fn a_request_id_is_read_as_it_is_printed(bits in any::<u128>()) {
        let id = RequestId::from_uuid(uuid::Uuid::from_u128(bits));
        prop_assert_eq!(RequestId::parse(&id.to_string()), Ok(id));
    }
}
