//! The topics, as other programs see them and write to them.

use crate::body::{self, converted};
use postern_tests::kcat::{self, Record, To, murmur2_partition};
use postern_tests::process::{run, settings};
use postern_tests::stack::{real_settings, unique};
use postern_tests::{Kind, Stack, World, directory, on_both, real, wait};
use serde_json::Value;
use std::collections::BTreeMap;

on_both!(shared:
    records_are_the_documented_ones,
    a_click_of_another_producer,
    a_misplaced_click,
    poison_goes_to_the_rejects,
);

on_both!(alone &[]; a_newer_record);

/// Schemas by topic; a record is held against any one of them.
fn schemas() -> BTreeMap<&'static str, Vec<jsonschema::Validator>> {
    let dir = directory::repository().join("docs/schemas");
    let schema = |name: &&str| {
        let file = dir.join(format!("{name}.schema.json"));
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let schema: Value = serde_json::from_str(&text).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    };
    [
        ("postern.clicks", &["click", "barrier"][..]),
        ("postern.postbacks", &["postback"]),
        ("postern.verdicts", &["verdicts"]),
        ("postern.conversions", &["conversion"]),
        ("postern.rejects", &["reject"]),
    ]
    .into_iter()
    .map(|(topic, names)| (topic, names.iter().map(schema).collect()))
    .collect()
}

async fn records_are_the_documented_ones(stack: &Stack) {
    if real::missing(false).is_some() {
        return;
    }
    let clickid = unique("topic");
    let click = format!(
        r#"{{"clickid":"{clickid}","campaign_id":18,"site_id":7,"source":"s","publisher_id":"p","traffic_log_id":"t"}}"#
    );
    assert_eq!(stack.post_clicks(&click).await.status, 200);
    let answer = stack
        .postback(&format!(
            "clickid={clickid}&revenue=1.20&currency=eur&txid=T&subid0=US&subid3=%5BX%5D"
        ))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.request_id();
    let refused = stack
        .postback(&format!("clickid={clickid}&revenue=x"))
        .await;
    let unknown = stack.postback(&format!("clickid={}", unique("no"))).await;
    assert_eq!((refused.status, unknown.status), (400, 404));

    let of_click = |record: &Record| record.key == clickid;
    let clicks = stack.records("postern.clicks", of_click).await;
    let postbacks = stack.records("postern.postbacks", of_click).await;
    let conversions = stack.records("postern.conversions", of_click).await;
    assert_eq!(
        (clicks.len(), postbacks.len(), conversions.len()),
        (1, 1, 1)
    );
    // A click and its postbacks meet, where the Java client would put them.
    let place = i64::from(murmur2_partition(&clickid, stack.partitions));
    assert_eq!(
        (clicks[0].partition, postbacks[0].partition),
        (place, place)
    );

    let json = clicks[0].json();
    assert_eq!(json["clickid"], clickid.as_str());
    assert_eq!(
        (&json["site_id"], &json["publisher_id"]),
        (&"7".into(), &"p".into())
    );
    let json = postbacks[0].json();
    assert_eq!(json["request_id"], id.as_str());
    // Money is text on the topics: no reader makes a float of it.
    assert_eq!(json["revenue"], "1.2");
    assert_eq!(
        (&json["currency"], &json["currency_sent"]),
        (&"EUR".into(), &true.into())
    );
    assert_eq!(
        (&json["external_id"], &json["subids"][0]),
        (&"T".into(), &"US".into())
    );
    assert_eq!(postbacks[0].header("postern-request-id"), Some(id.as_str()));
    let reply = postbacks[0].header("postern-reply-to").unwrap();
    assert!(
        reply.split_once('/').unwrap().0.parse::<u16>().is_ok(),
        "{reply}"
    );
    let json = conversions[0].json();
    assert_eq!(json["conversion_id"], id.as_str());
    assert_eq!(
        (&json["campaign_id"], &json["revenue"]),
        (&18.into(), &"1.2".into())
    );
    let of_refused = |record: &Record| record.key == refused.request_id();
    let rejects = stack.records("postern.rejects", of_refused).await;
    assert_eq!(rejects[0].json()["reason"], "invalid_revenue");
    assert_eq!(rejects[0].json()["request"]["method"], "GET");
    if stack.kind == Kind::Real {
        // In standalone verdicts need no topic.
        let of_postback = |record: &Record| record.value.contains(&id);
        let verdicts = stack.records("postern.verdicts", of_postback).await;
        assert_eq!(verdicts[0].key, reply.split_once('/').unwrap().1);
        console_consumer_reads(stack, &clickid);
    }

    for (topic, schemas) in schemas() {
        for record in kcat::read(stack.broker(), topic) {
            assert_eq!(record.time_type, "logappend", "{topic}: {record:?}");
            // What another test put there to be refused.
            if record.key.starts_with("poison") {
                continue;
            }
            let json = record.json();
            assert_eq!(json["v"], 1, "{topic}: {record:?}");
            if !schemas.iter().any(|schema| schema.is_valid(&json)) {
                let why = schemas[0].validate(&json).unwrap_err();
                panic!("{topic} {}: {why}: {json}", why.instance_path());
            }
        }
    }
}

/// Kafka's own console consumer.
fn console_consumer_reads(stack: &Stack, clickid: &str) {
    let world = stack.world.as_ref().unwrap();
    if !world.owns_kafka() {
        return;
    }
    let topic = ["--topic", "postern.postbacks", "--from-beginning"];
    let output = world.kafka_script(
        "console-consume",
        &[&topic[..], &["--timeout-ms", "3000"]].concat(),
    );
    let line = output.lines().find(|line| line.starts_with(clickid));
    let value = line.and_then(|line| line.split_once('\t')).unwrap().1;
    let json: Value = serde_json::from_str(value).unwrap();
    assert_eq!(json["clickid"], clickid);
}

async fn a_click_of_another_producer(stack: &Stack) {
    if real::missing(true).is_some() {
        return;
    }
    let clickid = unique("foreign");
    let click = format!(
        r#"{{"v":1,"clickid":"{clickid}","campaign_id":77,"site_id":"s","more":{{"a":[1]}},"clicked_at":"2026-01-02 03:04:05"}}"#
    );
    stack.produce("postern.clicks", To::Murmur2, &clickid, click.as_bytes());
    // kcat ends after the acknowledgement, so this postback came later than the click.
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=1"))
        .await;
    converted(&answer, &clickid, 77, "1", "USD");
    let of_click = |record: &Record| record.key == clickid;
    let events = stack.records("postern.conversions", of_click).await;
    assert_eq!(events[0].json()["clicked_at"], "2026-01-02T03:04:05Z");
}

async fn a_misplaced_click(stack: &Stack) {
    if real::missing(true).is_some() {
        return;
    }
    const METRIC: &str = "postern_clicks_misplaced_total";
    let before = stack.consumer_metric(METRIC).await;
    let clickid = unique("misplaced");
    let right = murmur2_partition(&clickid, stack.partitions);
    let click = format!(r#"{{"v":1,"clickid":"{clickid}","campaign_id":5}}"#);
    let wrong = To::Partition {
        partition: (right + 1) % stack.partitions,
        of: stack.partitions,
    };
    stack.produce("postern.clicks", wrong, &clickid, click.as_bytes());
    wait::until("the misplaced click is counted", async || {
        (stack.consumer_metric(METRIC).await > before).then_some(())
    })
    .await;
    // Stored all the same.
    let answer = stack.postback(&format!("clickid={clickid}")).await;
    converted(&answer, &clickid, 5, "0", "USD");
    let consumer = stack.consumer.as_ref().unwrap_or(&stack.ingress);
    let log = consumer.log();
    let line = log.lines().find(|line| line.contains(&clickid)).unwrap();
    assert!(
        line.contains("murmur2_random") && line.contains("WARN"),
        "{line}"
    );
}

async fn poison_goes_to_the_rejects(stack: &Stack) {
    if real::missing(true).is_some() {
        return;
    }
    for (topic, poison) in [
        ("postern.clicks", &b"not json"[..]),
        (
            "postern.clicks",
            br#"{"v":1,"clickid":"a","campaign_id":-1}"#,
        ),
        ("postern.clicks", b"\xff\xfe"),
        ("postern.postbacks", b"{}"),
        ("postern.postbacks", b"[1,2"),
    ] {
        if stack.kind == Kind::Embedded && std::str::from_utf8(poison).is_err() {
            // Its producer takes text only.
            continue;
        }
        let key = unique("poison");
        let place = murmur2_partition(&key, stack.partitions);
        stack.produce(topic, To::Murmur2, &key, poison);
        let of_poison = |record: &Record| record.value.contains(&key);
        let rejects = stack.records("postern.rejects", of_poison).await;
        assert_eq!(rejects.len(), 1, "{rejects:?}");
        let json = rejects[0].json();
        assert_eq!(json["request_id"], rejects[0].key.as_str());
        assert_eq!(json["record"]["topic"], topic);
        assert_eq!(json["record"]["partition"], place);
        assert!(!json["reason"].as_str().unwrap().is_empty());
        match std::str::from_utf8(poison) {
            Ok(text) => assert_eq!(json["record"]["value"], text),
            Err(_) => assert_eq!(json["record"]["value_hex"], "fffe"),
        }
        // The partition goes on: a click and a postback behind the poison.
        let clickid = loop {
            let id = unique("behind");
            if murmur2_partition(&id, stack.partitions) == place {
                break id;
            }
        };
        stack.click(&clickid, 2).await;
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        converted(&answer, &clickid, 2, "0", "USD");
    }
    // A click that nobody announced is still told as unknown.
    let answer = stack.postback(&format!("clickid={}", unique("no"))).await;
    answer.is(404, body::CLICK_NOT_FOUND);
}

/// A record of a later release stops its partition loudly, and no other.
async fn a_newer_record(stack: &mut Stack) {
    if real::missing(true).is_some() {
        return;
    }
    stack.spoil();
    let (stopped, other) = (stack.id_in_partition(0), stack.id_in_partition(1));
    stack.click(&stopped, 1).await;
    stack.click(&other, 1).await;
    let newer = br#"{"v":2,"request":{"id":"in a new place"}}"#;
    stack.produce("postern.postbacks", To::Murmur2, &stopped, newer);
    let series = r#"postern_partition_stopped{partition="0"}"#;
    wait::until("the partition stands still", async || {
        (stack.consumer_metric(series).await >= 1.0).then_some(())
    })
    .await;
    let answer = stack.postback(&format!("clickid={stopped}")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let answer = stack.postback(&format!("clickid={other}")).await;
    converted(&answer, &other, 1, "0", "USD");
    let process = stack.consumer.as_ref().unwrap_or(&stack.ingress);
    let (status, readiness) = process.readiness().await;
    assert_eq!(status, 503, "{readiness}");
    let log = process.log();
    let mut errors = log.lines().filter(|line| line.contains("ERROR"));
    assert!(errors.any(|line| line.contains("is newer than")), "{log}");
}

/// `postern topics create` and `check`, on a Kafka of their own.
#[test]
fn commands() {
    if real::missing(true).is_some() {
        return;
    }
    let world = World::own();
    let mut all = real_settings(&world);
    let said = |arguments: &[&str], all: &_| {
        let output = run(arguments, all);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, out, error) = said(&["topics", "check"], &all);
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(
        out.contains("broken: postern.clicks does not exist: run postern topics create"),
        "{out}"
    );
    assert!(
        error.contains("postern: the topics can't be used as they are"),
        "{error}"
    );

    // Three copies on one broker can't be had.
    all.remove("KAFKA__ALLOW_SINGLE_REPLICA");
    let (code, _, error) = said(&["topics", "create"], &all);
    assert_eq!(code, Some(1));
    assert!(error.contains("kafka.allow_single_replica"), "{error}");
    all.extend(settings(&[("KAFKA__ALLOW_SINGLE_REPLICA", "true")]));

    let (code, out, error) = said(&["topics", "create"], &all);
    assert_eq!(code, Some(0), "{error}");
    for topic in [
        "clicks",
        "postbacks",
        "verdicts",
        "conversions",
        "campaigns",
        "rejects",
    ] {
        assert!(out.contains(&format!("made postern.{topic}\n")), "{out}");
    }
    assert_eq!(said(&["topics", "create"], &all).1, "all topics exist\n");
    let checked = said(&["topics", "check"], &all);
    assert_eq!(
        (checked.0, checked.1.as_str()),
        (Some(0), "all topics are as they must be\n")
    );

    // Clicks with more partitions than postbacks would miss each other.
    let grow = [
        "topics",
        "--alter",
        "--topic",
        "postern.clicks",
        "--partitions",
        "6",
    ];
    world.kafka_script("tool", &grow);
    let (code, out, _) = said(&["topics", "check"], &all);
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("broken: postern.clicks has 6 partitions and postern.postbacks has 4"),
        "{out}"
    );
    // Nobody consumes them so.
    assert_eq!(said(&["migrate"], &all).0, Some(0));
    assert_eq!(said(&["migrate"], &all).1, "the schema is up to date\n");
    all.insert("HTTP__LISTEN".to_owned(), "127.0.0.1:0".to_owned());
    postern_tests::run::plain(async || {
        let consumer = postern_tests::Postern::start("consumer", &all).await;
        wait::until("the consumer refuses", async || {
            let (status, readiness) = consumer.readiness().await;
            let reason = readiness["checks"]["consumer"]["reason"].to_string();
            (status == 503 && reason.contains("postern.clicks has 6 partitions")).then_some(())
        })
        .await;
    });
}
