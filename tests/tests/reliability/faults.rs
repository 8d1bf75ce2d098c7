//! Processes are killed, frozen and made to die at every place where it could hurt, while callers
//! go on. Nothing that was answered may turn out to be untrue.

use crate::{check, full, on_fleets, say, set_campaigns};
use postern_tests::Kind;
use postern_tests::fleet::{Fleet, Who};
use postern_tests::history::History;
use postern_tests::traffic::Traffic;
use std::time::Duration;

on_fleets!(&[]; under_load);

/// Where a consumer can be made to die (crates/failpoint): each is a moment between two effects.
const CONSUMER: &[&str] = &[
    "consumer.rebalanced",
    "consumer.takes_over",
    "consumer.barrier",
    "consumer.rejects",
    "consumer.decided",
    "store.locked",
    "store.committed",
    "consumer.committed",
    "consumer.told",
    "consumer.emitted",
    SETTLED,
];
/// Under load nobody is idle: only the end leads to this one.
const SETTLED: &str = "consumer.settled";
/// Where an ingress can.
const INGRESS: &[&str] = &["ingress.registered", "ingress.sent", "ingress.published"];
/// SQLite's transaction has a moment that PostgreSQL's, sent in one piece, has not.
const SQLITE: &str = "store.written";

/// Longer than the session timeout of the tests: a frozen consumer has lost its partitions.
const FROZEN: Duration = Duration::from_secs(9);

/// Enough to get partitions after others died: their sessions end first, one after the other.
const SHARED_OUT: Duration = Duration::from_secs(45);
/// How long failpoints fail now and then.
const ROUGH: Duration = Duration::from_secs(10);

struct Size {
    callers: u32,
    rate: u32,
    consumer_kills: usize,
    freezes: usize,
    ingress_kills: usize,
    rounds: usize,
}

impl Size {
    fn of_this_run() -> Self {
        if full() {
            Self {
                callers: 400,
                rate: 1000,
                consumer_kills: 10,
                freezes: 3,
                ingress_kills: 5,
                rounds: 3,
            }
        } else {
            Self {
                callers: 48,
                rate: 150,
                consumer_kills: 1,
                freezes: 1,
                ingress_kills: 1,
                rounds: 1,
            }
        }
    }
}

async fn under_load(fleet: &mut Fleet) {
    let size = Size::of_this_run();
    let history = History::new();
    set_campaigns(fleet, 0);
    let traffic = Traffic::start(&fleet.ingresses(), &history, size.callers, size.rate);
    let beat = if full() {
        Duration::from_secs(3)
    } else {
        Duration::from_secs(1)
    };
    tokio::time::sleep(beat).await;

    for number in 0..size.consumer_kills {
        kill(fleet, Who::Consumer(number % 2)).await;
        tokio::time::sleep(beat).await;
    }
    set_campaigns(fleet, 1);
    for number in 0..size.ingress_kills {
        kill(fleet, Who::Ingress(number % 2)).await;
        tokio::time::sleep(beat).await;
    }
    for number in 0..size.freezes {
        let who = Who::Consumer(number % 2);
        fleet.process(who).signal("STOP");
        tokio::time::sleep(FROZEN).await;
        fleet.process(who).signal("CONT");
        tokio::time::sleep(beat).await;
    }
    let mut places: Vec<(Who, &str)> = CONSUMER
        .iter()
        .map(|place| (Who::Consumer(0), *place))
        .collect();
    places.extend(INGRESS.iter().map(|place| (Who::Ingress(0), *place)));
    if fleet.stack.kind == Kind::Embedded {
        places.push((Who::Consumer(0), SQLITE));
    }
    set_campaigns(fleet, 2);
    // Each place fails and dawdles now and then, for a while.
    let rough: Vec<String> = places
        .iter()
        .map(|(_, place)| format!("{place}=3%sleep(100)->3%return(lost)"))
        .collect();
    for who in [Who::Consumer(0), Who::Consumer(1), Who::Ingress(0)] {
        fleet.process(who).kill();
        fleet.start_with(who, &rough.join(";")).await;
    }
    tokio::time::sleep(ROUGH).await;
    for who in [Who::Consumer(0), Who::Consumer(1), Who::Ingress(0)] {
        fleet.process(who).stop().await;
        fleet.start_again(who).await;
    }
    for round in 0..size.rounds {
        for (who, place) in &places {
            let who = match who {
                Who::Consumer(_) => Who::Consumer(round % 2),
                Who::Ingress(_) => Who::Ingress(round % 2),
            };
            if *place == SETTLED {
                fleet.die_in_the_end(who, place).await;
            } else {
                fleet.die_at(who, place, SHARED_OUT).await;
            }
            fleet.start_again(who).await;
        }
    }
    fleet.ready().await;
    tokio::time::sleep(beat).await;
    traffic.finish().await;

    say(&format!(
        "faults, {:?}: {} consumer kills, {} freezes, {} ingress kills, {} places {} times each",
        fleet.stack.kind,
        size.consumer_kills,
        size.freezes,
        size.ingress_kills,
        places.len(),
        size.rounds
    ));
    check(fleet, "faults", &history).await;
}

async fn kill(fleet: &mut Fleet, who: Who) {
    fleet.process(who).kill();
    fleet.start_again(who).await;
}
