//! What can happen to Postern and to what it stands on, one thing at a time: how it begins, how it
//! ends, and what shows that it bit.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use postern_tests::checker::AnswerKind;
use postern_tests::fleet::{Fleet, Who};
use postern_tests::history::{History, PostbackCall, Reply};
use postern_tests::proxy::Mode;
use postern_tests::real::{Proxies, World};
use postern_tests::{directory, wait};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A fault.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    KafkaKilled,
    KafkaFrozen,
    KafkaDelayed,
    KafkaCut,
    KafkaReset,
    KafkaHung,
    /// Its connections swallow everything, new ones don't.
    KafkaStuck,
    StoreKilled,
    StoreFrozen,
    StoreDelayed,
    StoreCut,
    StoreReset,
    StoreHung,
    StoreDiskFull,
    /// Kafka is away, and one ingress' spool has no room.
    SpoolDiskFull,
    IngressKilled,
    IngressFrozen,
    IngressesRolled,
    ConsumerKilled,
    ConsumerFrozen,
    ConsumersRescaled,
    ClockForward,
    ClockBack,
    /// Deleted, and made anew when the fault ends.
    VerdictsDeleted,
}

/// All of them that need one broker only.
pub const ALL: &[Fault] = &[
    Fault::KafkaKilled,
    Fault::KafkaFrozen,
    Fault::KafkaDelayed,
    Fault::KafkaCut,
    Fault::KafkaReset,
    Fault::KafkaHung,
    Fault::KafkaStuck,
    Fault::StoreKilled,
    Fault::StoreFrozen,
    Fault::StoreDelayed,
    Fault::StoreCut,
    Fault::StoreReset,
    Fault::StoreHung,
    Fault::StoreDiskFull,
    Fault::SpoolDiskFull,
    Fault::IngressKilled,
    Fault::IngressFrozen,
    Fault::IngressesRolled,
    Fault::ConsumerKilled,
    Fault::ConsumerFrozen,
    Fault::ConsumersRescaled,
    Fault::ClockForward,
    Fault::ClockBack,
    Fault::VerdictsDeleted,
];

/// Each piece both ways, so that a question takes twice that.
const DELAY: Duration = Duration::from_millis(100);
/// Between two kills, or two of a roll.
const BEAT: Duration = Duration::from_secs(3);
/// What the clock is stepped by.
const STEP: Duration = Duration::from_secs(3600);
/// A disk on which a spool finds little room.
const SMALL: u64 = 64 * 1024;
const LIBFAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// A fault that has begun.
pub struct Begun {
    fault: Fault,
    at: Instant,
    /// What its evidence is counted from.
    before: f64,
    /// Kills and the like, of those that are made of many.
    turns: usize,
    /// What was seen so far.
    seen: Vec<String>,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::KafkaKilled => "Kafka killed",
            Self::KafkaFrozen => "Kafka frozen",
            Self::KafkaDelayed => "Kafka delayed by 100 ms each way",
            Self::KafkaCut => "connections to Kafka closed",
            Self::KafkaReset => "connections to Kafka reset",
            Self::KafkaHung => "connections to Kafka hang",
            Self::KafkaStuck => "existing connections to Kafka hang",
            Self::StoreKilled => "PostgreSQL killed",
            Self::StoreFrozen => "PostgreSQL frozen",
            Self::StoreDelayed => "PostgreSQL delayed by 100 ms each way",
            Self::StoreCut => "connections to PostgreSQL closed",
            Self::StoreReset => "connections to PostgreSQL reset",
            Self::StoreHung => "connections to PostgreSQL hang",
            Self::StoreDiskFull => "PostgreSQL's disk full",
            Self::SpoolDiskFull => "Kafka killed, a spool's disk full",
            Self::IngressKilled => "ingresses killed",
            Self::IngressFrozen => "an ingress frozen",
            Self::IngressesRolled => "ingresses rolled",
            Self::ConsumerKilled => "consumers killed",
            Self::ConsumerFrozen => "a consumer frozen",
            Self::ConsumersRescaled => "consumers 2 → 1 → 4 → 2",
            Self::ClockForward => "an ingress' and a consumer's clock an hour ahead",
            Self::ClockBack => "their clocks an hour behind",
            Self::VerdictsDeleted => "the topic of verdicts deleted and recreated",
        }
    }

    /// What the system must let us do for it; `None` where it does.
    pub fn needs(self, world: &World) -> Option<&'static str> {
        match self {
            Self::StoreDiskFull if !world.store_is_limited() => Some("the right to mount a tmpfs"),
            Self::SpoolDiskFull if directory::limited("probe", SMALL).is_none() => {
                Some("the right to mount a tmpfs")
            }
            Self::ClockForward | Self::ClockBack if libfaketime().is_none() => {
                Some("faketime; get it with: deploy/parts.sh install")
            }
            _ => None,
        }
    }

    /// The mode of a proxy that makes it, and which one.
    fn mode(self) -> Option<(bool, Mode)> {
        Some(match self {
            Self::KafkaDelayed => (true, Mode::Delay(DELAY)),
            Self::KafkaCut => (true, Mode::Cut),
            Self::KafkaReset => (true, Mode::Reset),
            Self::KafkaHung => (true, Mode::Hang),
            Self::KafkaStuck => (true, Mode::HangOld),
            Self::StoreDelayed => (false, Mode::Delay(DELAY)),
            Self::StoreCut => (false, Mode::Cut),
            Self::StoreReset => (false, Mode::Reset),
            Self::StoreHung => (false, Mode::Hang),
            _ => return None,
        })
    }

    /// Lets it happen; it goes on until it is lifted.
    pub async fn begin(self, fleet: &mut Fleet, history: &History) -> Begun {
        let world = fleet.stack.world.clone().unwrap();
        let mut seen = Vec::new();
        if self == Self::SpoolDiskFull {
            let disk = directory::limited("spool", SMALL).unwrap();
            assert!(fleet.process(Who::Ingress(0)).stop().await.success());
            let disk = disk.display().to_string();
            fleet
                .start_told(Who::Ingress(0), &[("DATA_DIR", &disk)])
                .await;
            fleet.stack.ingress.ready().await;
        }
        let mut begun = Begun {
            fault: self,
            at: Instant::now(),
            before: 0.0,
            turns: 0,
            seen: Vec::new(),
        };
        begun.before = begun.count(fleet, history).await;
        if let Some((kafka, mode)) = self.mode() {
            proxy(&world, kafka).set(mode);
        }
        match self {
            Self::KafkaKilled | Self::SpoolDiskFull => world.kill_kafka(),
            Self::KafkaFrozen => {
                world.kafka_script("freeze", &[]);
            }
            Self::StoreKilled => world.store_script("kill"),
            Self::StoreFrozen => world.store_script("freeze"),
            Self::StoreDiskFull => {
                seen.push(format!("{} MB taken away", world.fill_store() / 1_000_000));
            }
            Self::IngressFrozen => fleet.process(Who::Ingress(0)).signal("STOP"),
            Self::ConsumerFrozen => fleet.process(Who::Consumer(0)).signal("STOP"),
            Self::ClockForward | Self::ClockBack => step_clocks(fleet, self).await,
            Self::VerdictsDeleted => {
                let told = ["topics", "--delete", "--topic", "postern.verdicts"];
                world.kafka_script("tool", &told);
            }
            _ => {}
        }
        begun.seen = seen;
        begun
    }
}

impl Begun {
    /// When it began.
    pub fn since(&self) -> Instant {
        self.at
    }

    /// Lets it last.
    pub async fn last(&mut self, fleet: &mut Fleet, time: Duration) {
        let end = Instant::now() + time;
        let mut number = 0;
        while Instant::now() < end {
            match self.fault {
                Fault::IngressKilled => again(fleet, Who::Ingress(number % 2), true).await,
                Fault::ConsumerKilled => again(fleet, Who::Consumer(number % 2), true).await,
                Fault::IngressesRolled => again(fleet, Who::Ingress(number % 2), false).await,
                Fault::ConsumersRescaled => match number % 3 {
                    0 => fleet.remove_consumer().await,
                    1 => {
                        for _ in 0..3 {
                            fleet.add_consumer().await;
                        }
                    }
                    _ => {
                        fleet.remove_consumer().await;
                        fleet.remove_consumer().await;
                    }
                },
                _ => {}
            }
            number += 1;
            let left = end.saturating_duration_since(Instant::now());
            // At least one whole turn of what has turns.
            tokio::time::sleep(left.min(BEAT)).await;
        }
        while self.fault == Fault::ConsumersRescaled && fleet.consumers() != 2 {
            if fleet.consumers() < 2 {
                fleet.add_consumer().await;
            } else {
                fleet.remove_consumer().await;
            }
        }
        self.turns += number;
    }

    /// Waits until there is evidence of it.
    pub async fn bites(&self, fleet: &Fleet, history: &History) {
        if let Some(what) = self.counted() {
            let what = format!("{} bites: {what}", self.fault.name());
            wait::until(&what, async || {
                (self.bitten(fleet, history).await > 0.0).then_some(())
            })
            .await;
        }
    }

    /// How much of its evidence there is.
    async fn bitten(&self, fleet: &Fleet, history: &History) -> f64 {
        let now = self.count(fleet, history).await;
        // A process that was killed meanwhile counts from 0.
        if now < self.before {
            now
        } else {
            now - self.before
        }
    }

    /// Ends it; gives what shows that it bit.
    pub async fn lift(mut self, fleet: &mut Fleet, history: &History) -> String {
        let world = fleet.stack.world.clone().unwrap();
        if let Some(what) = self.counted() {
            let bitten = self.bitten(fleet, history).await;
            self.seen.insert(0, format!("{bitten} {what}"));
        }
        let turns = self.turns;
        match self.fault {
            Fault::IngressKilled | Fault::ConsumerKilled => {
                self.seen.push(format!("{turns} kills"));
            }
            Fault::IngressesRolled => self.seen.push(format!("{turns} in order")),
            Fault::ConsumersRescaled => self.seen.push(format!("{turns} changes")),
            Fault::IngressFrozen => {
                self.frozen(fleet, Who::Ingress(0));
                fleet.process(Who::Ingress(0)).signal("CONT");
            }
            Fault::ConsumerFrozen => {
                self.frozen(fleet, Who::Consumer(0));
                fleet.process(Who::Consumer(0)).signal("CONT");
            }
            Fault::ClockForward | Fault::ClockBack => {
                // Killed: where a library waits for a moment of the wall clock, libfaketime may have
                // put that an hour off.
                for who in [Who::Ingress(0), Who::Consumer(0)] {
                    fleet.process(who).kill();
                    fleet.start_again(who).await;
                }
            }
            Fault::SpoolDiskFull => {
                world.start_kafka();
                // On its small disk, until that is empty.
                fleet.stack.ingress.ready().await;
                wait::until("the small spool is empty", async || {
                    let left = fleet.stack.ingress.metric("postern_spool_records").await?;
                    (left == 0.0).then_some(())
                })
                .await;
                assert!(fleet.process(Who::Ingress(0)).stop().await.success());
                fleet.start_again(Who::Ingress(0)).await;
            }
            Fault::KafkaKilled => world.start_kafka(),
            Fault::KafkaFrozen => {
                world.kafka_script("continue", &[]);
            }
            Fault::StoreKilled => world.store_script("start"),
            Fault::StoreFrozen => world.store_script("continue"),
            Fault::StoreDiskFull => {
                world.empty_store();
                // It ends itself where it can't write its log.
                world.store_script("start");
            }
            Fault::VerdictsDeleted => {
                fleet.stack.said(&["topics", "create"]);
                let lifted = Instant::now();
                // Each ingress finds it again, or all its answers would be `queued` for ever.
                for ingress in 0..2 {
                    wait::until("verdicts come again", async || {
                        let recorded = history.recorded();
                        let calls = recorded.postbacks.iter().rev();
                        let mut since = calls.take_while(|call| call.ended >= lifted);
                        let decided = |call: &PostbackCall| {
                            call.began >= lifted
                                && call.sent.ingress == ingress
                                && call.kind() == AnswerKind::Standard
                        };
                        since.any(decided).then_some(())
                    })
                    .await;
                }
            }
            _ => {}
        }
        if let Some((kafka, _)) = self.fault.mode() {
            proxy(&world, kafka).set(Mode::Pass);
        }
        assert!(!self.seen.is_empty(), "{}: no evidence", self.fault.name());
        self.seen.join(", ")
    }

    /// What is counted as its evidence.
    fn counted(&self) -> Option<&'static str> {
        Some(match self.fault {
            Fault::KafkaKilled | Fault::KafkaFrozen => "records spooled",
            Fault::SpoolDiskFull => "records that a spool did not take",
            Fault::KafkaDelayed | Fault::StoreDelayed => "pieces delayed",
            Fault::KafkaCut | Fault::StoreCut | Fault::KafkaReset | Fault::StoreReset => {
                "connections closed"
            }
            Fault::KafkaHung | Fault::KafkaStuck | Fault::StoreHung => "bytes swallowed",
            Fault::StoreKilled
            | Fault::StoreFrozen
            | Fault::StoreDiskFull
            | Fault::VerdictsDeleted => "queued answers",
            Fault::ClockForward | Fault::ClockBack => "conversions of another hour",
            _ => return None,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of minutes")]
    async fn count(&self, fleet: &Fleet, history: &History) -> f64 {
        let world = fleet.stack.world.as_ref().unwrap();
        let done = |count: fn(&postern_tests::proxy::Done) -> &std::sync::atomic::AtomicU64| {
            let (kafka, _) = self.fault.mode().unwrap();
            count(proxy(world, kafka).done()).load(Ordering::Relaxed) as f64
        };
        match self.counted() {
            Some("conversions of another hour") => of_another_hour(history, self.at) as f64,
            Some("pieces delayed") => done(|done| &done.delayed),
            Some("connections closed") => done(|done| &done.cut),
            Some("bytes swallowed") => done(|done| &done.swallowed),
            Some("records spooled") => {
                let series = r#"postern_spool_appended_total{topic="postbacks"}"#;
                fleet.ingress_metric(series).await
            }
            Some("records that a spool did not take") => {
                let series = r#"postern_spool_failures_total{reason="disk"}"#;
                fleet.ingress_metric(series).await
            }
            Some("queued answers") => {
                let series = r#"postern_http_requests_total{outcome="queued",route="postback",status="202"}"#;
                fleet.ingress_metric(series).await
            }
            _ => 0.0,
        }
    }

    fn frozen(&mut self, fleet: &mut Fleet, who: Who) {
        let state = fleet.process(who).state();
        assert_eq!(state, 'T', "it isn't frozen");
        self.seen.push("its state is T".to_owned());
    }
}

/// A conversion says when its postback was received, by the clock of its ingress.
fn of_another_hour(history: &History, from: Instant) -> usize {
    let recorded = history.recorded();
    let since = recorded.postbacks.iter().filter(|call| call.began >= from);
    let created = since.filter_map(|call| {
        let Reply::Answer(answer) = &call.reply else {
            return None;
        };
        let (_, created) = answer.body.split_once(r#""created_at":""#)?;
        created.get(..19)?.parse::<DateTime>().ok()
    });
    let now = Timestamp::now().to_zoned(TimeZone::UTC).datetime();
    let off = |at: &DateTime| now.duration_since(*at).unsigned_abs() > STEP / 2;
    created.filter(off).count()
}

/// Ends a process and starts it again.
async fn again(fleet: &mut Fleet, who: Who, kill: bool) {
    if kill {
        fleet.process(who).kill();
    } else {
        assert!(fleet.process(who).stop().await.success());
    }
    fleet.start_again(who).await;
    if matches!(who, Who::Ingress(_)) {
        fleet.process(who).ready().await;
    }
}

/// The clock steps while they run: they start with the right one.
async fn step_clocks(fleet: &mut Fleet, fault: Fault) {
    let file = directory::fresh("clock").join("offset");
    std::fs::write(&file, "+0\n").unwrap();
    let (library, path) = (libfaketime().unwrap(), file.display().to_string());
    let told = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", &path),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    for who in [Who::Ingress(0), Who::Consumer(0)] {
        assert!(fleet.process(who).stop().await.success());
        fleet.start_told(who, &told).await;
    }
    fleet.ready().await;
    let sign = if fault == Fault::ClockForward {
        '+'
    } else {
        '-'
    };
    std::fs::write(&file, format!("{sign}{}\n", STEP.as_secs())).unwrap();
}

fn libfaketime() -> Option<String> {
    let libraries = std::fs::read_dir("/usr/lib").ok()?;
    let mut found = libraries.filter_map(|entry| {
        let path = entry.ok()?.path().join(LIBFAKETIME);
        path.exists().then(|| path.display().to_string())
    });
    found.next()
}

fn proxy(world: &Arc<World>, kafka: bool) -> &postern_tests::proxy::Proxy {
    let Proxies { kafka: one, store } = world.proxies.as_ref().expect("proxies");
    if kafka { one } else { store }
}
