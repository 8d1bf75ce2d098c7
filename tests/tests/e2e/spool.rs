//! What Kafka doesn't acknowledge: kept on disk, handed on, decided once.

use crate::body;
use postern_tests::stack::{TOKEN, unique};
use postern_tests::{Stack, directory, on_both, wait};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Nothing reaches Kafka, and the spool keeps it.
const AWAY: &str = "ingress.unpublished=return(away);ingress.undrained=return(away)";
/// The first records are sent, and nobody waits for their acknowledgements.
const AMBIGUOUS: &str = "ingress.unacknowledged=12*return(lost)";
/// Nothing reaches Kafka, and the disk doesn't keep it.
const NOWHERE: &str = "ingress.unpublished=return(away);spool.sync=return(failed)";

on_both!(alone &[("FAILPOINTS", super::AWAY)];
    an_acknowledged_one_outlives_the_ingress,
    no_click_is_missing_while_clicks_are_spooled,
    a_damaged_end_is_set_aside,
    a_disk_that_moved_is_drained,
);
on_both!(alone &[("FAILPOINTS", super::AWAY), ("SPOOL__MAX_BYTES", "1MiB")]; a_full_spool_is_told);
on_both!(alone &[("FAILPOINTS", super::STUCK)]; a_stuck_client_is_replaced);
on_both!(alone &[("FAILPOINTS", super::AMBIGUOUS)]; a_lost_acknowledgement_makes_no_second_conversion);
on_both!(alone &[("FAILPOINTS", super::NOWHERE)]; what_is_nowhere_is_not_acknowledged);

/// Kafka's client takes records and never says what became of them, although it is connected.
const STUCK: &str = "kafka.stuck=return(stuck)";

/// Postbacks that are answered `queued`: their clickids and request ids.
async fn queue(stack: &Stack, count: usize) -> Vec<(String, String)> {
    let mut queued = Vec::new();
    for _ in 0..count {
        let clickid = unique("spooled");
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue=1.5&txid={clickid}"))
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.json()["note"], "queued");
        queued.push((clickid, answer.request_id()));
    }
    queued
}

async fn announce(stack: &Stack, postbacks: &[(String, String)]) {
    for (clickid, _) in postbacks {
        stack.click(clickid, 18).await;
    }
}

async fn convert(stack: &Stack, postbacks: &[(String, String)]) {
    for (_, request_id) in postbacks {
        stack.becomes(request_id, "converted").await;
    }
}

/// The same ingress after a crash, and with nothing in its way.
async fn crash_and_start(stack: &mut Stack) {
    stack.settings.remove("FAILPOINTS");
    stack.start_ingress_again().await;
}

async fn spool_is_empty(stack: &Stack) {
    wait::until("the spool is empty", async || {
        let left = stack.ingress.metric("postern_spool_records").await;
        (left == Some(0.0)).then_some(())
    })
    .await;
}

fn spool(stack: &Stack) -> PathBuf {
    stack.ingress.dir.join("data/spool")
}

/// Its last segment.
fn segment(directory: &Path) -> PathBuf {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut segments: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    segments.pop().unwrap()
}

/// Clicks, postbacks and refused postbacks are kept through a crash, with their ids and times.
async fn an_acknowledged_one_outlives_the_ingress(stack: &mut Stack) {
    let queued = queue(stack, 20).await;
    announce(stack, &queued).await;
    let refused = stack.postback("revenue=1").await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let (status, readiness) = stack.ingress.readiness().await;
    assert_eq!(status, 200, "{readiness}");
    let spooled = stack.ingress.metric("postern_spool_records").await;
    assert!(spooled >= Some(0.0));
    crash_and_start(stack).await;
    convert(stack, &queued).await;
    stack.becomes(&refused.request_id(), "refused").await;
    spool_is_empty(stack).await;
    // Repeated, it is the duplicate of the one that was spooled.
    let (clickid, _) = &queued[0];
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=9&txid={clickid}"))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["note"], "duplicate");
    assert_eq!(answer.json()["revenue"].to_string(), "1.5");
}

/// A caller whose click was acknowledged isn't told that there is none, although Kafka hasn't got
/// it yet.
async fn no_click_is_missing_while_clicks_are_spooled(stack: &mut Stack) {
    let mut clickid = String::new();
    for _ in 0..20 {
        clickid = unique("spooled");
        stack.click(&clickid, 18).await;
    }
    // Postbacks get through to Kafka from now on, and the first of the clicks; the last one doesn't.
    stack.settings.insert(
        "FAILPOINTS".to_owned(),
        "ingress.undrained=3*off->return(away)".to_owned(),
    );
    stack.start_ingress_again().await;
    wait::until("some clicks are handed on", async || {
        let drained = r#"postern_spool_drained_total{topic="clicks"}"#;
        (stack.ingress.metric(drained).await? >= 7.0).then_some(())
    })
    .await;
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=1"))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    crash_and_start(stack).await;
    stack.becomes(&answer.request_id(), "converted").await;
    // Afterwards it can be told again.
    spool_is_empty(stack).await;
    wait::until("an unknown click is unknown", async || {
        let answer = stack.postback(&format!("clickid={}", unique("none"))).await;
        (answer.status == 404).then_some(())
    })
    .await;
}

async fn a_damaged_end_is_set_aside(stack: &mut Stack) {
    let queued = queue(stack, 10).await;
    announce(stack, &queued).await;
    stack.ingress.kill();
    let mut end = OpenOptions::new()
        .append(true)
        .open(segment(&spool(stack)))
        .unwrap();
    // As a write that a power failure cut in the middle.
    end.write_all(b"\x40\x01\x00\x00 and then no more").unwrap();
    drop(end);
    crash_and_start(stack).await;
    assert!(stack.ingress.log().contains("was set aside"));
    let aside = stack.ingress.metric("postern_spool_set_aside_bytes").await;
    assert!(aside > Some(0.0), "{aside:?}");
    convert(stack, &queued).await;
    spool_is_empty(stack).await;
}

/// The disk of a machine that is gone is read and emptied on another.
async fn a_disk_that_moved_is_drained(stack: &mut Stack) {
    let queued = queue(stack, 10).await;
    announce(stack, &queued).await;
    let inspected = stack.said(&["spool", "inspect", "--dir", &spool(stack).to_string_lossy()]);
    for line in ["10 postern.postbacks", "10 postern.clicks", "damaged    0"] {
        assert!(inspected.contains(line), "{inspected}");
    }
    // It is in use.
    let drained = stack.command(&["spool", "drain", "--dir", &spool(stack).to_string_lossy()]);
    assert!(!drained.status.success());
    let error = String::from_utf8_lossy(&drained.stderr).into_owned();
    assert!(error.contains("in use by another process"), "{error}");

    stack.ingress.kill();
    let moved = directory::fresh("moved").join("spool");
    std::fs::rename(spool(stack), &moved).unwrap();
    crash_and_start(stack).await;
    let moved = moved.to_string_lossy();
    let records = stack.said(&["spool", "inspect", "--records", "--dir", &moved]);
    assert!(
        queued.iter().all(|(_, id)| records.contains(id)),
        "{records}"
    );
    let mut settings = stack.command_settings();
    settings.insert("KAFKA__BROKERS".to_owned(), stack.bootstrap.clone());
    settings.insert("KAFKA__ALLOW_SINGLE_REPLICA".to_owned(), "true".to_owned());
    settings.insert("KAFKA__PARTITIONS".to_owned(), stack.partitions.to_string());
    let drain = || {
        let drained = postern_tests::process::run(&["spool", "drain", "--dir", &moved], &settings);
        let error = String::from_utf8_lossy(&drained.stderr);
        assert!(drained.status.success(), "{error}");
        String::from_utf8(drained.stdout).unwrap()
    };
    assert_eq!(drain(), "the spool is empty\n");
    convert(stack, &queued).await;

    // A record that was set aside is tried again, what is none stays.
    let (clickid, id) = &queued[0];
    let line = records.lines().find(|line| line.contains(id)).unwrap();
    let last = if id.ends_with('0') { '1' } else { '0' };
    let other = format!("{}{last}", &id[..id.len() - 1]);
    let line = line.replace(id, &other).replace(clickid, &unique("aside"));
    let aside = Path::new(&*moved).join("set-aside");
    std::fs::create_dir_all(&aside).unwrap();
    std::fs::write(aside.join("1.bin"), line).unwrap();
    std::fs::write(aside.join("2.bin"), "not a record").unwrap();
    let said = drain();
    assert!(
        said.starts_with("1 records that had been set aside were tried again\n"),
        "{said}"
    );
    assert!(said.contains("2.bin") && !said.contains("1.bin"), "{said}");
    stack.becomes(&other, "click_not_found").await;
}

/// What doesn't fit any more is answered so, and what was acknowledged stays.
async fn a_full_spool_is_told(stack: &mut Stack) {
    let mut kept = Vec::new();
    let subid = "s".repeat(1000);
    let full = loop {
        let clickid = unique("full");
        let query = format!("clickid={clickid}&subid0={subid}&subid1={subid}&subid2={subid}");
        let answer = stack.postback(&query).await;
        if answer.status != 202 {
            break answer;
        }
        kept.push((clickid, answer.request_id()));
        assert!(kept.len() < 1000, "1 MiB holds that many?");
    };
    full.is(503, body::INTERNAL_ERROR);
    assert_eq!(full.header("retry-after"), Some("1"));
    assert!(kept.len() > 50, "{}", kept.len());
    let answer = stack
        .post_clicks(r#"{"clickid":"a","campaign_id":1}"#)
        .await;
    // Small ones may still fit.
    assert!([200, 503].contains(&answer.status), "{answer:?}");
    wait::until("readiness tells of it", async || {
        let (_, readiness) = stack.ingress.readiness().await;
        let durable = &readiness["checks"]["durable"];
        (durable["reason"].as_str()?.contains("full")).then_some(())
    })
    .await;
    crash_and_start(stack).await;
    announce(stack, &kept).await;
    convert(stack, &kept).await;
    spool_is_empty(stack).await;
}

/// Kafka gets the record, and nobody knows: it goes there a second time, and counts once.
async fn a_lost_acknowledgement_makes_no_second_conversion(stack: &mut Stack) {
    let mut answers = Vec::new();
    for _ in 0..6 {
        // The failpoint doesn't tell one topic from another.
        let clickid = stack.new_click().await;
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue=1"))
            .await;
        assert!([200, 202].contains(&answer.status), "{answer:?}");
        answers.push((clickid, answer.request_id()));
    }
    convert(stack, &answers).await;
    spool_is_empty(stack).await;
    let drained = r#"postern_spool_drained_total{topic="clicks"}"#;
    assert!(stack.ingress.metric(drained).await > Some(0.0));
    let token = format!("Bearer {}", stack.admin_token());
    for (clickid, request_id) in &answers {
        let target = format!("/v1/conversions?clickid={clickid}");
        let headers = [("authorization", token.as_str())];
        let list =
            postern_tests::http::request(stack.reports_address(), "GET", &target, &headers, None)
                .await;
        let found = list.json()["conversions"].as_array().unwrap().len();
        assert_eq!(found, 1, "{clickid} {request_id}: {list:?}");
    }
}

/// Nothing is lost with the old client, and nothing counts twice.
async fn a_stuck_client_is_replaced(stack: &mut Stack) {
    let queued = queue(stack, 3).await;
    announce(stack, &queued).await;
    let replaced = r#"postern_kafka_producer_replaced_total{producer="ingress"}"#;
    wait::until("the client is replaced", async || {
        (stack.ingress.metric(replaced).await > Some(0.0)).then_some(())
    })
    .await;
    convert(stack, &queued).await;
    spool_is_empty(stack).await;
    wait::until("answers are standard again", async || {
        let clickid = stack.new_click().await;
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Neither Kafka nor the disk has it: nobody is told that it is stored.
async fn what_is_nowhere_is_not_acknowledged(stack: &mut Stack) {
    let answer = stack
        .postback(&format!("clickid={}&revenue=1", unique("nowhere")))
        .await;
    answer.is(503, body::INTERNAL_ERROR);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let token = format!("Bearer {TOKEN}");
    let headers = [("authorization", token.as_str())];
    let click = r#"{"clickid":"nowhere","campaign_id":1}"#;
    let answer = postern_tests::http::request(
        stack.ingress.http,
        "POST",
        "/v1/clicks",
        &headers,
        Some(click.as_bytes()),
    )
    .await;
    answer.is_error(503, "internal_error");
    let failures = r#"postern_spool_failures_total{reason="disk"}"#;
    assert!(stack.ingress.metric(failures).await > Some(0.0));
    assert!(
        stack
            .ingress
            .log()
            .contains("postbacks can't be made durable"),
        "the log says so"
    );
}
