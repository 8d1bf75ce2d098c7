//! What Postern stands on fails, and its own processes with it, while callers go on: each fault
//! once, alone, and some of them two at a time; in the long form (`make soak`) again and again.

use crate::fault::{ALL, Begun, Fault};
use crate::{check, check_filled, full, say, set_campaigns, turn};
use postern_tests::checker::AnswerKind;
use postern_tests::fleet::Fleet;
use postern_tests::history::{History, Reply, nearest};
use postern_tests::process::settings;
use postern_tests::real::{self, World};
use postern_tests::traffic::{Chance, Traffic};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is asked of the long form.
const MINUTES: &str = "SOAK_MINUTES";
const SEED: &str = "SOAK_SEED";
/// Those alone whose names hold this, to repeat one.
const FAULTS: &str = "FAULTS";

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

struct Size {
    callers: u32,
    rate: u32,
    /// How long a fault lasts, and the calm after it.
    lasts: Duration,
    calm: Duration,
    mixed: usize,
}

const SHORT: Size = Size {
    callers: 48,
    rate: 150,
    lasts: Duration::from_secs(4),
    calm: Duration::from_millis(500),
    mixed: 1,
};
const LONG: Size = Size {
    callers: 300,
    rate: 500,
    lasts: Duration::from_secs(25),
    calm: Duration::from_secs(4),
    mixed: 3,
};

/// What callers saw of a fault.
#[derive(Clone, Debug, Default)]
struct Seen {
    times: usize,
    sent: usize,
    acknowledged: usize,
    /// Longest time without any answer.
    silent: Duration,
    evidence: Vec<String>,
}

impl Seen {
    fn of(history: &History, from: Instant, to: Instant, evidence: String) -> Self {
        let recorded = history.recorded();
        let within = |at: Instant| (from..=to).contains(&at);
        let mut seen = Self {
            times: 1,
            evidence: vec![evidence],
            ..Self::default()
        };
        let mut ends = vec![from, to];
        for call in &recorded.postbacks {
            seen.sent += usize::from(within(call.began));
            if let Reply::Answer(answer) = &call.reply
                && within(call.ended)
            {
                seen.acknowledged += usize::from(matches!(answer.status, 200 | 202));
                ends.push(call.ended);
            }
        }
        ends.sort_unstable();
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        seen.silent = gaps.max().unwrap_or_default();
        seen
    }

    fn add(&mut self, other: Self) {
        self.times += other.times;
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.silent = self.silent.max(other.silent);
        self.evidence.extend(other.evidence);
    }
}

/// Lines by the name of the fault.
type Table = BTreeMap<String, Seen>;

fn add(table: &mut Table, name: &str, seen: Seen) {
    table.entry(name.to_owned()).or_default().add(seen);
}

/// As Markdown. What was lost, doubled or false is nothing, or nobody came this far.
fn show(table: &Table) {
    if table.is_empty() {
        return;
    }
    say(
        "| fault | times | sent | acknowledged meanwhile | lost | doubled | false | longest time without an answer | that it bit |",
    );
    say("|---|--:|--:|--:|--:|--:|--:|--:|---|");
    for (name, seen) in table {
        say(&format!(
            "| {name} | {} | {} | {} | 0 | 0 | 0 | {:.1} s | {} |",
            seen.times,
            seen.sent,
            seen.acknowledged,
            seen.silent.as_secs_f64(),
            seen.evidence.first().cloned().unwrap_or_default()
        ));
    }
}

/// One fault while callers go on.
async fn suffer(fleet: &mut Fleet, history: &History, fault: Fault, size: &Size) -> Seen {
    let mut begun = fault.begin(fleet).await;
    begun.last(fleet, size.lasts).await;
    let (from, evidence) = begun.lift(fleet, history).await;
    let to = Instant::now();
    recover(fleet, size).await;
    Seen::of(history, from, to, evidence)
}

/// Two at a time.
async fn suffer_both(
    fleet: &mut Fleet,
    history: &History,
    faults: [Fault; 2],
    size: &Size,
) -> Seen {
    let mut first: Begun = faults[0].begin(fleet).await;
    let mut second = faults[1].begin(fleet).await;
    second.last(fleet, size.lasts).await;
    first.last(fleet, Duration::ZERO).await;
    let (from, one) = first.lift(fleet, history).await;
    let (_, other) = second.lift(fleet, history).await;
    let to = Instant::now();
    recover(fleet, size).await;
    Seen::of(history, from, to, format!("{one}; {other}"))
}

async fn recover(fleet: &mut Fleet, size: &Size) {
    fleet.ready().await;
    tokio::time::sleep(size.calm).await;
}

/// All faults in an order that the seed gives.
async fn round(size: &Size, seed: u64, table: &mut Table, until: Option<Instant>) {
    let world = Arc::new(World::proxied());
    let mut fleet = Fleet::on(world.clone(), &settings(&[])).await;
    let history = History::new();
    set_campaigns(&fleet, 0);
    let traffic = Traffic::start(&fleet.ingresses(), &history, size.callers, size.rate);
    tokio::time::sleep(size.calm).await;
    let mut chance = Chance::new(seed);
    let wanted = std::env::var(FAULTS).unwrap_or_default();
    for fault in chance.shuffled(ALL) {
        if !fault.name().contains(&wanted) {
            continue;
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        if let Some(missing) = fault.needs(&world) {
            real::left_out(fault.name(), missing);
            continue;
        }
        say(&format!("{}…", fault.name()));
        let seen = suffer(&mut fleet, &history, fault, size).await;
        say(&format!("{}: {seen:?}", fault.name()));
        add(table, fault.name(), seen);
    }
    let mixed = if wanted.is_empty() { size.mixed } else { 0 };
    for _ in 0..mixed {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let faults = [chance.one_of(&FIRST), chance.one_of(&SECOND)];
        let name = format!("{}, {}", faults[0].name(), faults[1].name());
        say(&format!("{name}…"));
        let seen = suffer_both(&mut fleet, &history, faults, size).await;
        say(&format!("{name}: {seen:?}"));
        add(table, "two at a time", seen);
    }
    set_campaigns(&fleet, 1);
    traffic.finish().await;
    check(&fleet, &format!("faults outside, seed {seed}"), &history).await;
    drop(fleet);
    world.end();
}

/// One broker of three is killed, then two.
async fn brokers(size: &Size, table: &mut Table) {
    let world = Arc::new(World::three_brokers());
    let all = settings(&[("KAFKA__ALLOW_SINGLE_REPLICA", "false")]);
    let mut fleet = Fleet::on(world.clone(), &all).await;
    let history = History::new();
    let traffic = Traffic::start(&fleet.ingresses(), &history, size.callers, size.rate);
    tokio::time::sleep(size.calm).await;
    for (name, killed) in [
        ("a broker of three killed", &["3"][..]),
        ("two brokers of three killed", &["1", "2"]),
    ] {
        say(&format!("{name}…"));
        let from = Instant::now();
        for broker in killed {
            world.kafka_script("kill", &["--broker", broker]);
        }
        tokio::time::sleep(size.lasts).await;
        let status = world.kafka_status();
        let stopped = status.matches("stopped").count();
        assert_eq!(stopped, killed.len(), "{status}");
        for broker in killed {
            world.kafka_script("start", &["--broker", broker]);
        }
        let to = Instant::now();
        recover(&mut fleet, size).await;
        let evidence = format!("{stopped} without a process");
        let seen = Seen::of(&history, from, to, evidence);
        say(&format!("{name}: {seen:?}"));
        add(table, name, seen);
    }
    traffic.finish().await;
    check(&fleet, "brokers of three", &history).await;
    drop(fleet);
    world.end();
}

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
    tokio::time::sleep(size.lasts).await;
    let to = Instant::now();
    recover(&mut fleet, size).await;
    let evidence = format!("{} conversions gone", before - after);
    let seen = Seen::of(&history, from, to, evidence);
    add(table, "PostgreSQL restored from a backup", seen);
    traffic.finish().await;
    check_filled(&fleet, "a store of earlier", &history, true).await;
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
        let mut table = Table::new();
        scenario(&mut table).await;
        show(&table);
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
        let until = Instant::now() + Duration::from_secs(60 * minutes);
        for seed in first.. {
            store_of_earlier(&LONG, table).await;
            brokers(&LONG, table).await;
            round(&LONG, seed, table, Some(until)).await;
            if Instant::now() >= until {
                break;
            }
            show(table);
        }
        let sent: usize = table.values().map(|seen| seen.sent).sum();
        let acknowledged: usize = table.values().map(|seen| seen.acknowledged).sum();
        say(&format!(
            "soak of {minutes} minutes, first seed {first}: {sent} sent and {acknowledged} \
             acknowledged while a fault was active"
        ));
    });
}
