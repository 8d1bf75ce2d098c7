//! A visitor's click is there for the postback that is sent the moment his redirect arrives.

use crate::{full, on_fleets, say};
use postern_tests::Kind;
use postern_tests::fleet::Fleet;
use postern_tests::history::{History, Sent};
use postern_tests::http::Connection;
use postern_tests::stack::unique_campaign;
use postern_tests::traffic::Caller;
use postern_tests::wait;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

on_fleets!(&[]; redirected_then_reported, redirects_at_a_rate);

/// So many visitors are on their way at a time.
const VISITORS: usize = 8;
/// Redirects per second, and over how many connections.
const RATE: u32 = 500;
const CONNECTIONS: u32 = 16;

/// Sets a campaign that redirects, and waits until every ingress does.
async fn campaign(fleet: &Fleet) -> i64 {
    let id = unique_campaign();
    let url = "https://shop.example/?c={clickid}";
    let number = id.to_string();
    fleet
        .stack
        .said(&["campaign", "set", &number, "--tracking-url", url]);
    for address in fleet.ingresses() {
        wait::until("the ingress knows the campaign", async || {
            let mut connection = Connection::open(address).await.ok()?;
            visit(&mut connection, id).await
        })
        .await;
    }
    id
}

/// The clickid that the visitor is sent on with.
async fn visit(connection: &mut Connection, campaign: i64) -> Option<String> {
    let target = format!("/v1/click?campaign={campaign}&site=7");
    let answer = connection.request("GET", &target, &[], None).await.unwrap();
    let clickid = answer.json()["clickid"].as_str()?.to_owned();
    let location = answer.header("location").unwrap();
    assert_eq!(
        (answer.status, location),
        (302, format!("https://shop.example/?c={clickid}").as_str())
    );
    Some(clickid)
}

/// Each visitor comes through one ingress; his conversion is reported through the other.
async fn redirected_then_reported(fleet: &mut Fleet) {
    let clicks = if full() { 5000 } else { 400 };
    let id = campaign(fleet).await;
    let history = History::new();
    let ingresses = fleet.ingresses();
    let next = Arc::new(AtomicUsize::new(0));
    let mut visitors = JoinSet::new();
    for number in 0..VISITORS {
        let mut connection = Connection::open(ingresses[number % ingresses.len()])
            .await
            .unwrap();
        let mut caller = Caller::new(&ingresses, &history);
        let next = Arc::clone(&next);
        visitors.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < clicks {
                let clickid = visit(&mut connection, id).await.unwrap();
                let sent = Sent {
                    clickid,
                    revenue: "1.5".to_owned(),
                    ingress: number + 1,
                    ..Sent::default()
                };
                let answer = caller.postback(sent).await.unwrap();
                // A loaded machine may leave one with queued; none may be unknown.
                assert!([200, 202].contains(&answer.status), "{answer:?}");
            }
        });
    }
    while let Some(done) = visitors.join_next().await {
        done.unwrap();
    }
    crate::check(fleet, "redirected, then reported", &history).await;
    assert_eq!(history.counts().total(), clicks);
}

/// What a visitor waits, at a steady rate. The full run tells; this is no benchmark.
async fn redirects_at_a_rate(fleet: &mut Fleet) {
    let seconds = if full() { 20 } else { 2 };
    let id = campaign(fleet).await;
    let ingresses = fleet.ingresses();
    let mut visitors = JoinSet::new();
    for number in 0..CONNECTIONS {
        let address = ingresses[number as usize % ingresses.len()];
        visitors.spawn(steady(address, id, number, RATE * seconds / CONNECTIONS));
    }
    let mut waits = Vec::new();
    while let Some(done) = visitors.join_next().await {
        waits.extend(done.unwrap());
    }
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    say(&format!(
        "redirects at {RATE}/s, {:?}: {} redirected, p50 {:.1?}, p99 {:.1?}",
        fleet.stack.kind,
        waits.len(),
        at(50),
        at(99)
    ));
    // The embedded broker acknowledges later.
    if full() && fleet.stack.kind == Kind::Real {
        assert!(at(50) < Duration::from_millis(10), "p50 {:?}", at(50));
    }
}

/// One connection's share: each wait counts from when the visitor was due.
async fn steady(address: SocketAddr, campaign: i64, number: u32, count: u32) -> Vec<Duration> {
    let pause = Duration::from_secs(1) * CONNECTIONS / RATE;
    let mut connection = Connection::open(address).await.unwrap();
    let first = Instant::now() + pause * number / CONNECTIONS;
    let mut waits = Vec::new();
    for turn in 0..count {
        let due = first + pause * turn;
        tokio::time::sleep_until(due.into()).await;
        visit(&mut connection, campaign).await.unwrap();
        waits.push(due.elapsed());
    }
    waits
}
