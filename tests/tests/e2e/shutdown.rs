//! SIGTERM loses no answer that was promised.

use postern_tests::http::Connection;
use postern_tests::load::{Load, Told};
use postern_tests::process::settings;
use postern_tests::stack::unique;
use postern_tests::{Kind, Postern, Stack, on_both, real, run, wait};
use std::time::{Duration, Instant};

on_both!(alone &[]; of_the_ingress_under_load, in_flight_is_answered, a_second_signal);

/// New clicks of campaign 18, so many of them.
pub async fn clicks(stack: &Stack, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|_| unique("load")).collect();
    let lines: String = ids
        .iter()
        .map(|id| format!("{{\"clickid\":\"{id}\",\"campaign_id\":18}}\n"))
        .collect();
    let answer = stack.post_clicks(&lines).await;
    assert_eq!(answer.json()["accepted"], count, "{answer:?}");
    ids
}

/// Everything that was answered 200 or 202 has become the one conversion of its click.
pub async fn kept(stack: &Stack, told: &[Told]) {
    for told in told {
        match told.status {
            200 | 202 => {
                let status = stack.outcome(&told.request_id).await;
                assert_eq!(status["outcome"], "converted", "{told:?}: {status}");
                if told.status == 200 {
                    assert_eq!(status["answer"].to_string(), sorted(&told.body));
                }
            }
            // Nothing promised.
            503 => {}
            _ => panic!("{told:?}"),
        }
    }
}

fn sorted(body: &str) -> String {
    serde_json::from_str::<serde_json::Value>(body)
        .unwrap()
        .to_string()
}

async fn of_the_ingress_under_load(stack: &mut Stack) {
    let clickids = clicks(stack, 800).await;
    let load = Load::start(stack.ingress.http, clickids, 200);
    wait::until("the load runs", async || {
        (load.answered() > 200).then_some(())
    })
    .await;
    assert!(stack.ingress.stop().await.success());
    let told = load.finish().await;
    assert!(
        told.len() < 700,
        "the load went on to the end: {}",
        told.len()
    );
    let standard = told.iter().filter(|told| told.status == 200).count();
    assert!(
        standard > 150,
        "only {standard} of {} were standard",
        told.len()
    );
    stack.start_ingress_again().await;
    kept(stack, &told).await;
}

/// SIGTERM to the consumer: the ingress goes on, and the next consumer tells the rest.
#[test]
fn of_the_consumer_under_load() {
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        let clickids = clicks(stack, 800).await;
        let load = Load::start(stack.ingress.http, clickids, 200);
        wait::until("the load runs", async || {
            (load.answered() > 200).then_some(())
        })
        .await;
        let start = Instant::now();
        let consumer = stack.consumer.as_mut().unwrap();
        assert!(consumer.stop().await.success());
        assert!(start.elapsed() < Duration::from_secs(10));
        let before = load.answered();
        let mut next = Postern::start("consumer", &stack.settings).await;
        next.ready().await;
        stack.consumer = Some(next);
        wait::until("the load goes on", async || {
            (load.answered() > before + 100).then_some(())
        })
        .await;
        let told = load.finish().await;
        assert!(told.iter().all(|told| told.status < 300), "{told:?}");
        kept(stack, &told).await;
    });
}

/// A request whose body is still on its way when the signal comes is waited for and answered.
async fn in_flight_is_answered(stack: &mut Stack) {
    let clickid = stack.new_click().await;
    let body = format!("clickid={clickid}&revenue=4");
    let mut connection = half_sent(stack, body.len()).await;
    stack.ingress.terminate();
    wait::until("it stops accepting", async || {
        Connection::open(stack.ingress.http).await.err()
    })
    .await;
    assert!(stack.ingress.runs());
    connection.send(body.as_bytes()).await.unwrap();
    let answer = connection.answer().await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
    let status = stack.ingress.ended(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
    stack.start_ingress_again().await;
    let status = stack.outcome(&answer.request_id()).await;
    assert_eq!(status["answer"], answer.json());
}

async fn a_second_signal(stack: &mut Stack) {
    let _connection = half_sent(stack, 100).await;
    stack.ingress.terminate();
    wait::until("it stops accepting", async || {
        Connection::open(stack.ingress.http).await.err()
    })
    .await;
    assert!(stack.ingress.runs(), "it waits for the request");
    let start = Instant::now();
    stack.ingress.terminate();
    let status = stack.ingress.ended(Duration::from_secs(3)).await;
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(status.code(), Some(143), "{status}");
}

/// A request of which only the head is sent, once the server has begun to handle it.
async fn half_sent(stack: &Stack, length: usize) -> Connection {
    let gauge = "postern_requests_in_flight";
    let mut connection = Connection::open(stack.ingress.http).await.unwrap();
    let head = format!("POST /v1/postback HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    connection.send(head.as_bytes()).await.unwrap();
    wait::until("it is being handled", async || {
        (stack.ingress.metric(gauge).await? >= 1.0).then_some(())
    })
    .await;
    connection
}
