//! The schemas in docs/schemas describe what the types write and read: no more, no less.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jiff::Timestamp;
use jsonschema::Validator;
use postern_core::campaign::{Activity, Campaign, Dedupe, TrackingUrl};
use postern_core::currency::Currency;
use postern_core::ids::{ClickId, RequestId};
use postern_core::money::Revenue;
use postern_core::record::campaign::CampaignRecord;
use postern_core::record::click::{Click, ClickRecord, barrier};
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::{Origin, Postback};
use postern_core::record::reject::{Reject, Source};
use postern_core::record::verdict::{Forbidden, Outcome, Verdict, VerdictBatch};
use postern_core::request::{BodyKind, Incoming, InvalidRevenue, Rules, understand};
use postern_core::status::Status;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;

const NAMES: [&str; 7] = [
    "click",
    "barrier",
    "postback",
    "verdicts",
    "conversion",
    "campaign",
    "reject",
];

fn schema(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/schemas")
        .join(format!("{name}.schema.json"));
    let text = std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn validator(name: &str) -> Validator {
    jsonschema::draft202012::new(&schema(name)).unwrap()
}

/// What the validator has against a record.
fn complaints(validator: &Validator, record: &Value) -> Vec<String> {
    validator
        .iter_errors(record)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// What the types make of a record: its encoding once more, or why it can't be read.
fn reread(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let now = Timestamp::UNIX_EPOCH;
    let read = match name {
        "click" => match ClickRecord::decode(bytes, now) {
            Ok(ClickRecord::Click(click)) => Ok(click.encode()),
            Ok(ClickRecord::Barrier) => return Err("a barrier".to_owned()),
            Err(error) => Err(error),
        },
        "barrier" => match ClickRecord::decode(bytes, now) {
            Ok(ClickRecord::Barrier) => {
                let record: Value = serde_json::from_slice(bytes).unwrap();
                Ok(barrier(record["barrier"].as_str().unwrap()))
            }
            Ok(ClickRecord::Click(_)) => return Err("a click".to_owned()),
            Err(error) => Err(error),
        },
        "postback" => Postback::decode(bytes).map(|record| record.encode()),
        "verdicts" => VerdictBatch::decode(bytes).map(|record| record.encode()),
        "conversion" => Conversion::decode(bytes).map(|record| record.encode()),
        "campaign" => CampaignRecord::decode(bytes).map(|record| record.encode()),
        "reject" => Reject::decode(bytes).map(|record| record.encode()),
        other => panic!("no reader for {other}"),
    };
    read.map_err(|error| error.to_string())
}

#[test]
fn the_schemas_are_schemas_and_describe_every_field() {
    for name in NAMES {
        let schema = schema(name);
        jsonschema::draft202012::meta::validate(&schema)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(schema["properties"]["v"]["const"], 1, "{name}");
        describe(name, &schema, &schema);
    }
}

/// Each property below `node` has a description and examples that it accepts itself.
fn describe(place: &str, node: &Value, root: &Value) {
    match node {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                for (name, property) in properties {
                    let place = format!("{place}.{name}");
                    if property.get("const").is_some() && property.get("description").is_none() {
                        continue; // one branch of a oneOf
                    }
                    assert!(property["description"].is_string(), "{place}");
                    let mut alone = property.clone();
                    if let Some(definitions) = root.get("$defs") {
                        alone["$defs"] = definitions.clone();
                    }
                    let alone = jsonschema::draft202012::new(&alone).unwrap();
                    let examples = property["examples"].as_array().unwrap();
                    assert!(!examples.is_empty(), "{place}");
                    for example in examples {
                        assert_eq!(complaints(&alone, example), [""; 0], "{place}");
                    }
                }
            }
            for (name, value) in fields.iter().filter(|(name, _)| *name != "examples") {
                describe(&format!("{place}.{name}"), value, root);
            }
        }
        Value::Array(values) => values.iter().for_each(|one| describe(place, one, root)),
        _ => {}
    }
}

#[test]
fn examples_are_valid_and_read_and_unknown_fields_are_ignored() {
    for name in NAMES {
        let validator = validator(name);
        let examples = schema(name)["examples"].as_array().unwrap().clone();
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            assert_eq!(complaints(&validator, &example), [""; 0], "{name}");
            let read = reread(name, example.to_string().as_bytes()).unwrap();
            let written: Value = serde_json::from_slice(&read).unwrap();
            assert_eq!(complaints(&validator, &written), [""; 0], "{name}");
            for (field, value) in example.as_object().unwrap() {
                assert_eq!(&written[field], value, "{name}.{field}");
            }
            let mut later = example.clone();
            later["added_later"] = json!({"by": ["somebody"]});
            assert_eq!(complaints(&validator, &later), [""; 0], "{name}");
            assert_eq!(reread(name, later.to_string().as_bytes()), Ok(read));
        }
    }
}

/// Required means required: without the field neither the schema nor the type takes the record.
#[test]
fn required_fields_and_versions_are_held_by_schema_and_type_alike() {
    for name in NAMES {
        let validator = validator(name);
        let schema = schema(name);
        let example = &schema["examples"][0];
        for field in schema["required"].as_array().unwrap() {
            let field = field.as_str().unwrap();
            // Readers are kinder here than the schema: a click posted over HTTP needs no version,
            // a barrier's is not looked at, and an absent external id is none.
            let lenient = matches!(
                (name, field),
                ("click" | "barrier", "v") | ("conversion", "external_id")
            );
            let mut record = example.clone();
            record.as_object_mut().unwrap().remove(field);
            assert!(!validator.is_valid(&record), "{name} without {field}");
            let read = reread(name, record.to_string().as_bytes());
            assert_eq!(read.is_ok(), lenient, "{name} without {field}: {read:?}");
        }
        // What isn't required can be left out; a reject has one of two things.
        for example in schema["examples"].as_array().unwrap() {
            let required = schema["required"].as_array().unwrap();
            let fields = example.as_object().unwrap().keys();
            for field in fields.filter(|field| !required.contains(&json!(field))) {
                let mut record = example.clone();
                record.as_object_mut().unwrap().remove(field);
                let one_of = name == "reject" && ["request", "record"].contains(&field.as_str());
                assert_ne!(
                    validator.is_valid(&record),
                    one_of,
                    "{name} without {field}"
                );
                let read = reread(name, record.to_string().as_bytes());
                assert!(read.is_ok(), "{name} without {field}: {read:?}");
            }
        }
        let mut newer = example.clone();
        newer["v"] = json!(2);
        assert!(!validator.is_valid(&newer), "{name}");
    }
}

#[test]
fn what_the_types_refuse_the_schemas_refuse() {
    let long = "x".repeat(256);
    for (name, pointer, bad) in [
        ("click", "/clickid", json!("")),
        ("click", "/clickid", json!("   ")),
        ("click", "/clickid", json!("a\u{85}b")),
        ("click", "/clickid", json!(long)),
        ("click", "/clickid", json!(7)),
        ("click", "/campaign_id", json!(0)),
        ("click", "/campaign_id", json!("00")),
        ("click", "/campaign_id", json!("x")),
        ("click", "/campaign_id", json!(1.5)),
        ("click", "/source", json!(long)),
        ("click", "/source", json!("a\nb")),
        ("click", "/source", json!(["a"])),
        ("click", "/clicked_at", json!("yesterday")),
        ("click", "/clicked_at", json!(1_764_165_600)),
        ("click", "/barrier", json!("consumer-1")),
        ("postback", "/request_id", json!("1")),
        (
            "postback",
            "/request_id",
            json!("019ac0b02a907d2f8f6b0123456789ab"),
        ),
        ("postback", "/received_at", json!("2025-11-26 14:32:10")),
        ("postback", "/revenue", json!("-1")),
        ("postback", "/revenue", json!("1,5")),
        ("postback", "/revenue", json!("")),
        ("postback", "/revenue", json!("NaN")),
        ("postback", "/currency", json!(840)),
        ("postback", "/currency_sent", json!("yes")),
        ("postback", "/subids", json!(["US"])),
        ("postback", "/subids/0", json!(1)),
        ("postback", "/origin", json!({"method": "GET"})),
        ("verdicts", "/verdicts/0/outcome", json!("perhaps")),
        ("verdicts", "/verdicts/0/created_at", Value::Null),
        ("verdicts", "/verdicts/1/campaign_id", json!("18")),
        ("verdicts", "/verdicts/3/status", json!("paid")),
        ("verdicts", "/verdicts/5/reason", json!("mood")),
        ("postback", "/event", json!(5)),
        ("postback", "/status", json!("approved")),
        (
            "postback",
            "/status",
            json!({"word": "x", "status": "paid"}),
        ),
        ("postback", "/status", json!({"status": "approved"})),
        ("postback", "/signature", json!({"sig": "00"})),
        ("campaign", "/status", json!("on")),
        ("campaign", "/tracking_url", json!("ftp://shop.example/")),
        ("campaign", "/version", json!("3")),
        ("conversion", "/status", json!("paid")),
        ("conversion", "/dedupe", json!("all")),
        ("conversion", "/conversion_id", Value::Null),
        ("conversion", "/clicked_at", json!("")),
        ("conversion", "/policy_version", json!("1")),
        ("reject", "/request/raw_query", Value::Null),
    ] {
        let mut record = schema(name)["examples"][0].clone();
        match record.pointer_mut(pointer) {
            Some(field) => *field = bad,
            None => record[pointer.trim_start_matches('/')] = bad,
        }
        assert!(!validator(name).is_valid(&record), "{name}: {record}");
        let read = reread(name, record.to_string().as_bytes());
        assert!(read.is_err(), "{name}: {record}");
    }
}

// ---- records as the types make them

fn text(most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..most).prop_map(String::from_iter)
}

fn clickid() -> impl Strategy<Value = ClickId> {
    prop_oneof![
        "[0-9a-f]{32}",
        "\\PC{1,60}",
        Just("barrier".to_owned()),
        Just("x".repeat(255)),
    ]
    .prop_filter_map("a clickid", |text| ClickId::parse(text.as_bytes()).ok())
}

fn request_id() -> impl Strategy<Value = RequestId> {
    any::<u128>().prop_map(|bits| RequestId::from_uuid(uuid::Uuid::from_u128(bits)))
}

/// All that a click may carry, finer than is kept.
fn time() -> impl Strategy<Value = Timestamp> {
    (0..253_000_000_000_i64, 0..1_000_000_000_i32)
        .prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap())
}

fn revenue() -> impl Strategy<Value = Revenue> {
    prop_oneof![0..5_000_000_i64, 0..=Revenue::MAX.micros()]
        .prop_map(|micros| Revenue::from_micros(micros).unwrap())
}

fn currency() -> impl Strategy<Value = Currency> {
    prop_oneof!["[A-Za-z]{3}".boxed(), text(5).boxed()].prop_map(|text| Currency::normalize(&text))
}

fn click() -> impl Strategy<Value = Click> {
    let labels = proptest::array::uniform4("\\PC{0,60}");
    (clickid(), 1..=i64::MAX, labels, time()).prop_map(|(clickid, campaign, labels, at)| {
        Click::from_parts(clickid, campaign, labels, postern_core::time::to_micros(at))
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    (text(16), text(40), text(40), text(20), text(20)).prop_map(
        |(method, raw_query, raw_body, address, user_agent)| Origin {
            method,
            raw_query,
            raw_body,
            address,
            user_agent,
        },
    )
}

/// Through the door that requests come in by, so that raw values and warnings are real ones.
fn postback() -> impl Strategy<Value = Postback> {
    let value = prop_oneof![
        text(12),
        "[0-9]{1,9}(\\.[0-9]{0,9})?",
        Just("{macro}".to_owned()),
        Just("ü".repeat(700)),
    ];
    let fields = proptest::collection::btree_map(
        prop_oneof![
            Just("revenue"),
            Just("currency"),
            Just("txid"),
            Just("tid"),
            Just("subid0"),
            Just("subid4"),
            Just("event"),
            Just("goal"),
            Just("status"),
            Just("type"),
            Just("sig"),
        ],
        value,
        0..9,
    );
    (clickid(), fields, request_id(), time(), origin()).prop_filter_map(
        "a postback that is understood",
        |(clickid, fields, request_id, at, origin)| {
            let mut body = serde_json::to_value(fields).unwrap();
            body["clickid"] = json!(clickid);
            body["subid2"] = json!({"not": "text"});
            let body = body.to_string();
            let incoming = Incoming {
                query: b"",
                body: Some((BodyKind::Json, body.as_bytes())),
            };
            let rules = Rules {
                invalid_revenue: InvalidRevenue::Php,
                ..Rules::default()
            };
            let fields = understand(&incoming, &rules).ok()?;
            Some(Postback::new(request_id, at, fields, origin))
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let values = (any::<i64>(), revenue(), currency(), time());
    (request_id(), 0..8_usize, values).prop_map(
        |(request_id, kind, (campaign_id, revenue, currency, created_at))| Verdict {
            request_id,
            outcome: match kind {
                0 => Outcome::Converted {
                    campaign_id,
                    revenue,
                    currency,
                    created_at: postern_core::time::to_micros(created_at),
                },
                1 => Outcome::Duplicate {
                    campaign_id,
                    revenue,
                    currency,
                },
                2 => Outcome::Updated {
                    campaign_id,
                    revenue,
                    currency,
                    status: Status::Pending,
                },
                3 => Outcome::ClickExpired { campaign_id },
                kind @ 4..7 => Outcome::Forbidden {
                    campaign_id,
                    reason: [
                        Forbidden::Address,
                        Forbidden::SignatureMissing,
                        Forbidden::SignatureWrong,
                    ][kind - 4],
                },
                _ => Outcome::ClickNotFound,
            },
        },
    )
}

/// Valid, and the same after it was read and written again.
fn holds(name: &str, validator: &Validator, bytes: &[u8]) -> Result<(), TestCaseError> {
    let record: Value = serde_json::from_slice(bytes).unwrap();
    prop_assert_eq!(complaints(validator, &record), [""; 0], "{}", record);
    prop_assert_eq!(reread(name, bytes), Ok(bytes.to_vec()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    #[test]
    fn clicks_and_barriers(clicks in proptest::collection::vec(click(), 1..8), name in text(20)) {
        let validator = validator("click");
        for click in clicks {
            holds("click", &validator, &click.encode())?;
        }
        holds("barrier", &self::validator("barrier"), &barrier(&name))?;
    }

    #[test]
    fn postbacks_and_conversions(
        postback in postback(),
        click in click(),
        version in 0..9_i64,
        statuses in any::<bool>(),
    ) {
        holds("postback", &validator("postback"), &postback.encode())?;
        let mut campaign = Campaign { version, ..Campaign::default() };
        campaign.settings.statuses = statuses;
        campaign.settings.dedupe = Dedupe::Event;
        let conversion = Conversion::of(&postback, &click, &campaign);
        holds("conversion", &validator("conversion"), &conversion.encode())?;
    }

    #[test]
    fn campaigns(
        campaign_id in 1..=i64::MAX,
        version in 1..=i64::MAX,
        status in prop_oneof![
            Just(Activity::Active), Just(Activity::Paused), Just(Activity::Closed)
        ],
        url in proptest::option::of("https?://[a-z]{1,9}\\.example/[a-z0-9%&=?]{0,20}"),
    ) {
        let tracking_url = url.and_then(|url| TrackingUrl::parse(&url).ok());
        let record = CampaignRecord { campaign_id, version, status, tracking_url };
        holds("campaign", &validator("campaign"), &record.encode())?;
    }

    #[test]
    fn verdicts(verdicts in proptest::collection::vec(verdict(), 0..8)) {
        let batch = VerdictBatch::new("ingress-1".to_owned(), verdicts);
        holds("verdicts", &validator("verdicts"), &batch.encode())?;
    }

    #[test]
    fn rejects(
        (id, at) in (request_id(), time()),
        message in text(30),
        origin in origin(),
        place in (0..i32::MAX, 0..i64::MAX),
        (key, value) in any::<(Vec<u8>, Vec<u8>)>(),
    ) {
        let validator = validator("reject");
        let refused = Reject::request(id, at, "missing_clickid", message.clone(), origin);
        holds("reject", &validator, &refused.encode())?;
        let source = Source::new("postern.clicks", place.0, place.1, &key, &value);
        let record = Reject::record(at, "malformed_record", message, source);
        holds("reject", &validator, &record.encode())?;
    }
}
