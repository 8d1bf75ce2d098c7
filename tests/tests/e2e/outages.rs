//! What Postern needs isn't there: at its start, and while it runs.

use crate::bad_input::nobody;
use crate::body::{self, converted};
use postern_tests::checker::Installation;
use postern_tests::process::{FAILPOINTS, settings};
use postern_tests::stack::unique;
use postern_tests::{Kind, Postern, Stack, http, on_both, real, run, wait};
use std::time::Duration;

on_both!(shared: a_consumer_without_its_store, ready_means_ready);

/// What says that it is ready takes the next postback at once, also within a short deadline.
async fn ready_means_ready(stack: &Stack) {
    for _ in 0..4 {
        let stack = stack.variant(&[("ANSWER__TIMEOUT", "400ms")]).await;
        let clickid = unique("ready");
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        assert_ne!(answer.status, 503, "{answer:?}");
    }
}

/// The processes are up before their Kafka is, and work as soon as it comes.
#[test]
fn kafka_comes_late() {
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        let clickid = unique("kafka");
        let world = stack.world.clone().unwrap();
        world.kill_kafka();
        // What runs says so, and stays. An ingress can do without, a consumer can't.
        let says = async |postern: &Postern, ready: bool| {
            let expected = if ready { 200 } else { 503 };
            wait::until("the role says that Kafka is away", async || {
                let (status, readiness) = postern.readiness().await;
                let kafka = &readiness["checks"]["kafka"];
                let told = kafka["degraded"] == ready && kafka["ok"] == ready;
                (status == expected && told && kafka["reason"] != "starting").then_some(())
            })
            .await;
        };
        says(&stack.ingress, true).await;
        says(stack.consumer.as_ref().unwrap(), false).await;
        let early = stack
            .postback(&format!("clickid={clickid}&revenue=1"))
            .await;
        assert_eq!(early.status, 202, "{early:?}");
        assert_eq!(early.json()["note"], "queued");
        // What starts now takes postbacks as well, unless it has no spool.
        let late = Postern::start("ingress", &stack.settings).await;
        let mut settings = stack.settings.clone();
        settings.insert("SPOOL__MAX_BYTES".to_owned(), "0".to_owned());
        let without = Postern::start("ingress", &settings).await;
        settings.remove("SPOOL__MAX_BYTES");
        settings.insert(
            FAILPOINTS.to_owned(),
            "spool.sync=return(failed)".to_owned(),
        );
        let broken = Postern::start("ingress", &settings).await;
        says(&late, true).await;
        says(&without, false).await;
        wait::until("an ingress whose disk fails says so", async || {
            let (status, readiness) = broken.readiness().await;
            let durable = &readiness["checks"]["durable"];
            let why = durable["reason"].as_str()?;
            (status == 503 && durable["ok"] == false && why.contains("be written")).then_some(())
        })
        .await;
        let durable = &late.readiness().await.1["checks"]["durable"];
        assert_eq!(durable["degraded"], true, "{durable}");
        let request = format!("/v1/postback?clickid={clickid}&revenue=2");
        let second = http::get(late.http, &request).await;
        assert_eq!(second.status, 202, "{second:?}");
        let refused = http::get(without.http, &request).await;
        refused.is(503, body::INTERNAL_ERROR);
        assert_eq!(refused.header("retry-after"), Some("1"));
        // Its click comes last, and is kept like them.
        stack.click(&clickid, 5).await;

        world.start_kafka();
        let (mut late, mut without) = (late, without);
        without.ready().await;
        late.ready().await;
        stack.ingress.ready().await;
        stack.consumer.as_mut().unwrap().ready().await;
        wait::until("one converts, the other is its duplicate", async || {
            let mut outcomes = Vec::new();
            for id in [early.request_id(), second.request_id()] {
                outcomes.push(
                    stack.status(&id).await.json()["outcome"]
                        .as_str()?
                        .to_owned(),
                );
            }
            // Two ingresses: Kafka has the one or the other first.
            outcomes.sort_unstable();
            (outcomes == ["converted", "duplicate"]).then_some(())
        })
        .await;
        wait::until("the spools are empty", async || {
            let left = "postern_spool_records";
            let left = [late.metric(left).await, stack.ingress.metric(left).await];
            (left == [Some(0.0); 2]).then_some(())
        })
        .await;
    });
}

/// Records of postbacks that wait for a consumer, as it says itself.
async fn behind(stack: &Stack) -> f64 {
    let mut records = 0.0;
    for partition in 0..stack.partitions {
        let labels = format!(r#"{{partition="{partition}",topic="postern.postbacks"}}"#);
        let series = format!("postern_consumer_lag_records{labels}");
        records += stack.consumer_metric(&series).await;
    }
    records
}

/// With the store down a postback is queued, and decided when it is back.
#[test]
fn the_store_goes_and_comes() {
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        let world = stack.world.clone().unwrap();
        let known = stack.new_click().await;
        let answer = stack.postback(&format!("clickid={known}&revenue=1")).await;
        converted(&answer, &known, 18, "1", "USD");

        world.stop_store();
        let clickid = stack.new_click().await;
        let unknown = unique("unknown");
        let mut queued = Vec::new();
        for (id, outcome) in [
            (&clickid, "converted"),
            (&clickid, "duplicate"),
            (&known, "duplicate"),
            (&unknown, "click_not_found"),
        ] {
            let answer = stack.postback(&format!("clickid={id}&revenue=2")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            assert_eq!(answer.json()["note"], "queued");
            assert_eq!(answer.json()["request_id"], answer.request_id());
            queued.push((answer.request_id(), outcome));
        }
        let answer = stack.status(&queued[0].0).await;
        answer.is(503, body::INTERNAL_ERROR);
        for process in [&stack.consumer, &stack.reports] {
            let process = process.as_ref().unwrap();
            wait::until("/readyz names the store", async || {
                let (status, readiness) = process.readiness().await;
                (status == 503 && readiness["checks"]["store"]["ok"] == false).then_some(())
            })
            .await;
        }
        wait::until("the consumer tells what waits", async || {
            (behind(stack).await >= 4.0).then_some(())
        })
        .await;
        // The ingress needs no store.
        assert_eq!(stack.ingress.readiness().await.0, 200);

        world.start_store();
        for (request_id, outcome) in &queued {
            let status = wait::until("the queued are decided", async || {
                let answer = stack.status(request_id).await;
                (answer.status == 200 && answer.json()["outcome"] != "pending")
                    .then(|| answer.json())
            })
            .await;
            assert_eq!(status["outcome"], *outcome, "{status}");
        }
        stack.consumer.as_mut().unwrap().ready().await;
        stack.reports.as_mut().unwrap().ready().await;
        wait::until("nothing waits any more", async || {
            (behind(stack).await == 0.0).then_some(())
        })
        .await;
        // Answers are standard again.
        wait::until("a standard answer", async || {
            let clickid = stack.new_click().await;
            let answer = stack.postback(&format!("clickid={clickid}")).await;
            (answer.status == 200).then_some(())
        })
        .await;
    });
}

/// The server breaks transactions off, as it does where they wait for each other or can't be put
/// in an order: they are tried again, whole, and nothing counts as refused.
#[test]
fn transactions_are_broken_off() {
    const TRIGGER: &str = "
        CREATE SEQUENCE attempts;
        CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE attempt bigint := nextval('attempts');
        BEGIN
            IF attempt <= 2 THEN
                RAISE EXCEPTION 'deadlock detected' USING ERRCODE = 'deadlock_detected';
            ELSIF attempt <= 4 THEN
                RAISE EXCEPTION 'no order' USING ERRCODE = 'serialization_failure';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER break_off BEFORE INSERT ON conversions
        FOR EACH ROW EXECUTE FUNCTION break_off();";
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        stack.spoil();
        let store = Installation::from(&*stack).store;
        let clickid = stack.new_click().await;
        let first = stack
            .postback(&format!("clickid={clickid}&revenue=3"))
            .await;
        converted(&first, &clickid, 18, "3", "USD");
        store.execute(TRIGGER);
        let clickid = stack.new_click().await;
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue=4"))
            .await;
        stack.becomes(&answer.request_id(), "converted").await;
        let attempts = stack.world.as_ref().unwrap();
        let attempts = attempts.query("SELECT last_value FROM attempts");
        assert_eq!(
            attempts.trim(),
            "5",
            "two deadlocks, two without an order, and one that worked"
        );
        let again = stack
            .postback(&format!("clickid={clickid}&revenue=5"))
            .await;
        assert_eq!(again.json()["note"], "duplicate", "{again:?}");
        let refused = r#"postern_records_rejected_total{reason="refused_by_store"}"#;
        assert_eq!(stack.consumer_metric(refused).await, 0.0);
    });
}

/// While nobody consumes, status says pending; nothing is lost.
#[test]
fn the_consumer_goes_and_comes() {
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        let consumer = stack.consumer.as_mut().unwrap();
        assert!(consumer.stop().await.success());
        let clickid = stack.new_click().await;
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue=3"))
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.request_id();
        let status = stack.status(&id).await;
        status.is(
            200,
            &format!(r#"{{"status":"ok","request_id":"{id}","outcome":"pending"}}"#),
        );
        let mut consumer = Postern::start("consumer", &stack.settings).await;
        consumer.ready().await;
        stack.consumer = Some(consumer);
        let status = stack.outcome(&id).await;
        assert_eq!(status["outcome"], "converted", "{status}");
        assert_eq!(status["answer"]["revenue"].to_string(), "3");
    });
}

/// PostgreSQL, or what stands before it, ends connections that nobody uses: the next batch takes
/// another one, and isn't dropped.
#[test]
fn connections_end_while_nobody_uses_them() {
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        let world = stack.world.clone().unwrap();
        let dropped = r#"postern_batches_dropped_total{cause="store"}"#;
        let before = stack.consumer_metric(dropped).await;
        for round in 0..3 {
            let clickid = stack.new_click().await;
            let target = format!("clickid={clickid}&revenue={round}");
            let answer = stack.postback(&target).await;
            stack.becomes(&answer.request_id(), "converted").await;
            let ended = world.query(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'postern' AND state = 'idle'",
            );
            assert!(ended.trim().parse::<u32>().unwrap() > 0, "{ended}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let clickid = stack.new_click().await;
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        stack.becomes(&answer.request_id(), "converted").await;
        assert!(
            stack.consumer_metric(dropped).await <= before,
            "a batch went to a connection that had ended"
        );
    });
}

/// A consumer whose store can't be reached stays up and says which.
async fn a_consumer_without_its_store(stack: &Stack) {
    let nobody = nobody().await;
    let mut all = settings(&[
        ("KAFKA__BROKERS", &stack.bootstrap),
        ("KAFKA__ALLOW_SINGLE_REPLICA", "true"),
        ("KAFKA__PARTITIONS", &stack.partitions.to_string()),
        (
            "STORE__URL",
            &format!("postgres://postern:secret@{nobody}/postern"),
        ),
    ]);
    all.insert("CONSUMER__SESSION_TIMEOUT".to_owned(), "6s".to_owned());
    let mut consumer = Postern::start("consumer", &all).await;
    wait::until("/readyz names the store", async || {
        let (status, readiness) = consumer.readiness().await;
        let store = &readiness["checks"]["store"];
        let named = store["ok"] == false && store["reason"] != "starting";
        (status == 503 && named && readiness["checks"]["kafka"]["ok"] == true).then_some(())
    })
    .await;
    wait::until("the log says that it tries again", async || {
        consumer.log().contains("trying again").then_some(())
    })
    .await;
    assert!(consumer.runs());
    assert_eq!(http::get(consumer.admin, "/healthz").await.status, 200);
    assert!(!consumer.log().contains("secret"), "a password in the log");
    assert!(consumer.stop().await.success());
}
