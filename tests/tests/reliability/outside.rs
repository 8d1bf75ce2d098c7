//! What Postern stands on fails, and its own processes with it, while callers go on: each fault
//! once, alone, and some of them two at a time; in the long form (`make soak`) again and again.

use crate::fault::{ALL, Begun, Fault};
use crate::table::{self, Table};
use crate::{check, full, judge, say, set_campaigns, turn};
use postern_tests::checker::AnswerKind;
use postern_tests::fleet::Fleet;
use postern_tests::history::{History, nearest};
use postern_tests::process::settings;
use postern_tests::real::{self, World};
use postern_tests::traffic::{Chance, Traffic};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is asked of the long form.
const MINUTES: &str = "SOAK_MINUTES";
const SEED: &str = "SOAK_SEED";
/// Those alone whose names hold this, to repeat one; with a `!` before it, all others.
const FAULTS: &str = "FAULTS";

/// Whether a fault is to happen.
fn is_wanted(name: &str) -> bool {
    let text = std::env::var(FAULTS).unwrap_or_default();
    match text.strip_prefix('!') {
        Some(not) => !name.contains(not),
        None => text.split(',').any(|part| name.contains(part)),
    }
}

/// Whether only some are to happen.
fn is_choosy() -> bool {
    std::env::var(FAULTS).is_ok_and(|text| !text.starts_with('!'))
}

/// Of the first and the second of two at a time.
const FIRST: [Fault; 8] = [
    Fault::KafkaKilled,
    Fault::KafkaFrozen,
    Fault::KafkaReset,
    Fault::KafkaHung,
    Fault::StoreKilled,
    Fault::StoreFrozen,
    Fault::StoreReset,
    Fault::StoreHung,
];
const SECOND: [Fault; 3] = [
    Fault::IngressKilled,
    Fault::ConsumerKilled,
    Fault::ConsumerFrozen,
];

/// The line of all pairs.
const TWO: &str = "two at a time";

struct Size {
    callers: u32,
    rate: u32,
    /// How long a fault lasts, and the calm after it.
    lasts: Duration,
    calm: Duration,
    /// It lasts longer, up to [`LONGEST`] times that, until so many are acknowledged.
    acknowledged: usize,
    mixed: usize,
}

const LONGEST: u32 = 4;

const SHORT: Size = Size {
    callers: 48,
    rate: 150,
    lasts: Duration::from_secs(4),
    calm: Duration::from_millis(500),
    acknowledged: 0,
    mixed: 1,
};
const LONG: Size = Size {
    callers: 400,
    rate: 600,
    lasts: Duration::from_secs(20),
    calm: Duration::from_secs(4),
    acknowledged: 7000,
    mixed: 3,
};

/// What an hour of the long form must come to: acknowledged while each fault was there, and in all.
const EACH: usize = 20_000;
const ALL_TOGETHER: usize = 500_000;

/// One fault while callers go on, or two at a time.
async fn suffer(
    fleet: &mut Fleet,
    history: &History,
    faults: &[Fault],
    size: &Size,
    name: &str,
    table: &mut Table,
) {
    let mut begun: Vec<Begun> = Vec::new();
    for fault in faults {
        begun.push(fault.begin(fleet, history).await);
    }
    let from = begun[0].since();
    for _ in 0..LONGEST {
        let last = begun.last_mut().expect("a fault");
        last.last(fleet, size.lasts).await;
        if table::acknowledged(history, from, Instant::now()) >= size.acknowledged {
            break;
        }
    }
    for one in &begun {
        one.bites(fleet, history).await;
    }
    let mut evidence = Vec::new();
    for one in begun {
        evidence.push(one.lift(fleet, history).await);
    }
    let to = Instant::now();
    recover(fleet, size).await;
    table.add(name, history, from, to, evidence.join(", "));
}

/// Waits as long as a fault is to last that needs nothing done meanwhile.
async fn stand(history: &History, from: Instant, size: &Size) {
    for _ in 0..LONGEST {
        tokio::time::sleep(size.lasts).await;
        if table::acknowledged(history, from, Instant::now()) >= size.acknowledged {
            break;
        }
    }
}

async fn recover(fleet: &mut Fleet, size: &Size) {
    fleet.ready().await;
    tokio::time::sleep(size.calm).await;
}

/// All faults in an order that the seed gives. From `until` on only those that need more.
async fn round(size: &Size, seed: u64, table: &mut Table, until: Option<Instant>) {
    let world = Arc::new(World::proxied());
    let mut fleet = Fleet::on(world.clone(), &settings(&[])).await;
    let history = History::new();
    set_campaigns(&fleet, 0);
    let traffic = Traffic::start(&fleet.ingresses(), &history, size.callers, size.rate);
    tokio::time::sleep(size.calm).await;
    let mut chance = Chance::new(seed);
    let done = |table: &Table, name: &str| {
        until.is_some_and(|until| Instant::now() >= until) && table.acknowledged(name) >= EACH
    };
    for fault in chance.shuffled(ALL) {
        if !is_wanted(fault.name()) || done(table, fault.name()) {
            continue;
        }
        if let Some(missing) = fault.needs(&world) {
            real::left_out(fault.name(), missing);
            continue;
        }
        say(&format!("{}…", fault.name()));
        suffer(&mut fleet, &history, &[fault], size, fault.name(), table).await;
    }
    let mixed = if is_choosy() { 0 } else { size.mixed };
    for _ in 0..mixed {
        let faults = [chance.one_of(&FIRST), chance.one_of(&SECOND)];
        if !done(table, TWO) {
            say(&format!("{}, {}…", faults[0].name(), faults[1].name()));
            suffer(&mut fleet, &history, &faults, size, TWO, table).await;
        }
    }
    set_campaigns(&fleet, 1);
    traffic.finish().await;
    let name = format!("faults outside, seed {seed}");
    let report = judge(&fleet, &name, &history, false).await;
    table.judge(&history, &report);
    drop(fleet);
    world.end();
}

const BROKERS: [(&str, &[&str]); 2] = [
    ("a broker of three killed", &["3"]),
    ("two brokers of three killed", &["1", "2"]),
];

/// One broker of three is killed, then two.
async fn brokers(size: &Size, table: &mut Table) {
    let world = Arc::new(World::three_brokers());
    let all = settings(&[("KAFKA__ALLOW_SINGLE_REPLICA", "false")]);
    let mut fleet = Fleet::on(world.clone(), &all).await;
    let history = History::new();
    let traffic = Traffic::start(&fleet.ingresses(), &history, size.callers, size.rate);
    tokio::time::sleep(size.calm).await;
    for (name, killed) in BROKERS {
        say(&format!("{name}…"));
        let from = Instant::now();
        for broker in killed {
            world.kafka_script("kill", &["--broker", broker]);
        }
        stand(&history, from, size).await;
        let status = world.kafka_status();
        let stopped = status.matches("stopped").count();
        assert_eq!(stopped, killed.len(), "{status}");
        for broker in killed {
            world.kafka_script("start", &["--broker", broker]);
        }
        let to = Instant::now();
        recover(&mut fleet, size).await;
        let evidence = format!("{stopped} without a process");
        table.add(name, &history, from, to, evidence);
    }
    traffic.finish().await;
    let report = judge(&fleet, "brokers of three", &history, false).await;
    table.judge(&history, &report);
    drop(fleet);
    world.end();
}

const RESTORED: &str = "PostgreSQL restored from a backup";

/// PostgreSQL comes back as it was earlier, and is filled again from Kafka.
async fn store_of_earlier(size: &Size, table: &mut Table) {
    let world = Arc::new(World::own());
    let mut fleet = Fleet::on(world.clone(), &settings(&[])).await;
    let history = History::new();
    let traffic = Traffic::start(&fleet.ingresses(), &history, size.callers, size.rate);
    tokio::time::sleep(size.lasts).await;
    world.stop_store();
    world.back_up_store();
    world.start_store();
    recover(&mut fleet, size).await;
    tokio::time::sleep(size.lasts).await;
    let count = || conversions(&world);
    let before = count();
    let from = Instant::now();
    world.stop_store();
    world.restore_store();
    world.start_store();
    let after = count();
    assert!(after < before, "{after} of {before} conversions");
    stand(&history, from, size).await;
    let to = Instant::now();
    recover(&mut fleet, size).await;
    let evidence = format!("{} conversions gone", before - after);
    table.add(RESTORED, &history, from, to, evidence);
    traffic.finish().await;
    let report = judge(&fleet, "a store of earlier", &history, true).await;
    table.judge(&history, &report);
    drop(fleet);
    world.end();
}

fn conversions(world: &World) -> u64 {
    let said = world.query("SELECT count(*) FROM conversions");
    said.trim().parse().unwrap()
}

/// Kafka is away for a minute, at a thousand postbacks a second: callers notice nothing but `queued`.
#[test]
fn a_minute_without_kafka() {
    outside(async |_: &mut Table| {
        let (size, away) = if full() {
            let size = Size {
                callers: 400,
                rate: 1000,
                ..LONG
            };
            (size, Duration::from_secs(60))
        } else {
            (SHORT, Duration::from_secs(8))
        };
        let world = Arc::new(World::own());
        let mut fleet = Fleet::on(world.clone(), &settings(&[])).await;
        let history = History::new();
        let traffic = Traffic::start(&fleet.ingresses(), &history, size.callers, size.rate);
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.kill_kafka();
        let from = Instant::now();
        tokio::time::sleep(away).await;
        let to = Instant::now();
        world.start_kafka();
        recover(&mut fleet, &size).await;
        traffic.finish().await;
        let soon = from + Duration::from_secs(5);
        let first = history.latencies(from, soon);
        let then = history.latencies(soon, to);
        for (when, times) in [("first 5 s", &first), ("after that", &then)] {
            say(&format!(
                "without Kafka, {when}: {} answers, p50 {:.1?}, p99 {:.1?}, max {:.1?}",
                times.len(),
                nearest(times, 50.0),
                nearest(times, 99.0),
                nearest(times, 100.0),
            ));
        }
        let counts = history.counts();
        assert_eq!(counts.answered(), counts.total(), "{counts}");
        assert_eq!(counts.of(AnswerKind::InternalError), 0, "{counts}");
        if full() {
            assert!(nearest(&first, 99.0) < Duration::from_millis(2500));
            assert!(nearest(&then, 99.0) < Duration::from_millis(50));
        }
        check(&fleet, "without Kafka", &history).await;
        drop(fleet);
        world.end();
    });
}

/// Runs something on real parts, when no other scenario runs, and shows what it saw.
fn outside(scenario: impl AsyncFnOnce(&mut Table)) {
    if real::missing(true).is_some() {
        return;
    }
    let _turn = turn();
    postern_tests::run::plain(async || {
        let mut table = Table::default();
        scenario(&mut table).await;
        table.show();
        table.assert_clean();
    });
}

/// The short form: each fault once.
#[test]
fn each_once() {
    outside(async |table: &mut Table| round(&SHORT, 1, table, None).await);
}

#[test]
fn brokers_of_three() {
    outside(async |table: &mut Table| brokers(&SHORT, table).await);
}

#[test]
fn a_store_of_earlier() {
    outside(async |table: &mut Table| store_of_earlier(&SHORT, table).await);
}

/// The long form: `make soak`.
#[test]
#[ignore = "takes an hour: make soak"]
fn soak() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let minutes: u64 = number(MINUTES).unwrap_or(60);
    let first: u64 = number(SEED).unwrap_or(1);
    outside(async |table: &mut Table| {
        let began = Instant::now();
        let time = Duration::from_secs(60 * minutes);
        let until = began + time;
        let alone = is_choosy();
        let mut last = first;
        for seed in first.. {
            last = seed;
            let due = |table: &Table, name: &str| {
                is_wanted(name) && (seed == first || table.acknowledged(name) < EACH)
            };
            if due(table, RESTORED) {
                store_of_earlier(&LONG, table).await;
            }
            if BROKERS.iter().any(|(name, _)| due(table, name)) {
                brokers(&LONG, table).await;
            }
            round(&LONG, seed, table, Some(until)).await;
            table.show();
            // Those that came too short get half as much time again.
            let enough = alone || table.least_and_all().0 >= EACH;
            if Instant::now() >= if enough { until } else { until + time / 2 } {
                break;
            }
        }
        let (least, all) = table.least_and_all();
        say(&format!(
            "soak of {:.0} minutes, seeds {first} to {last}: {all} acknowledged, at least {least} \
             while each fault was there",
            began.elapsed().as_secs_f64() / 60.0
        ));
        if minutes >= 60 && !alone {
            assert!(least >= EACH, "{least} of {EACH} while a fault was there");
            assert!(all >= ALL_TOGETHER, "{all} of {ALL_TOGETHER} in all");
        }
    });
}
