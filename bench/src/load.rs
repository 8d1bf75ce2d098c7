//! The load. Open loop: each request is due at its time, whatever became of the ones before. Closed loop: each
//! connection sends one postback after the other.

use crate::answer::{Kind, judge};
use crate::client::{Client, PATIENCE};
use crate::set::{Mix, Set};
use crate::target::Target;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long after the end answers are waited for.
const DRAIN: Duration = Duration::from_secs(15);
/// Kinds of trouble that are told apart.
const REASONS: usize = 20;
/// How often requests become due together at most: a thread that wakes up for each would take more of the machine
/// than it is worth.
const TICK: Duration = Duration::from_micros(200);

/// What a run is about.
#[derive(Clone, Debug)]
pub struct Plan {
    pub targets: Vec<Target>,
    pub set: Set,
    pub shares: Mix,
    /// The number of the first postback.
    pub first: u64,
    /// Postbacks at most.
    pub count: u64,
    /// Postbacks per second; none is a closed loop.
    pub rate: Option<u64>,
    pub connections: u64,
    /// Connections that do nothing meanwhile.
    pub idle: u64,
    pub warmup: Duration,
    pub measured: Duration,
}

/// What came of a run, without its warm-up.
#[derive(Debug, Default)]
pub struct Results {
    /// From due to answered, in microseconds; in no order until the run is over, then sorted. An
    /// error counts as [`PATIENCE`] at least: a refusal that comes at once is not a fast answer.
    pub latencies: Vec<u32>,
    /// From due to sent, alike.
    pub delays: Vec<u32>,
    /// How many of each kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// Why there was no verdict, and how often; also of the warm-up.
    pub reasons: BTreeMap<String, u64>,
    /// The same by kind, with the warm-up: what the store must hold.
    pub all: BTreeMap<Kind, u64>,
    /// How long was measured.
    pub took: Duration,
    /// The first number that was not used.
    pub next: u64,
}

impl Results {
    pub fn count(&self, kind: Kind) -> u64 {
        self.kinds.get(&kind).copied().unwrap_or(0)
    }

    fn add(&mut self, done: Done) {
        if !done.why.is_empty() {
            let why: String = done.why.chars().take(200).collect();
            let known = self.reasons.len() < REASONS || self.reasons.contains_key(&why);
            let why = if known { why } else { "others".to_owned() };
            *self.reasons.entry(why).or_default() += 1;
        }
        *self.all.entry(done.kind).or_default() += 1;
        if !done.measured {
            return;
        }
        *self.kinds.entry(done.kind).or_default() += 1;
        self.latencies.push(micros(match done.kind {
            Kind::Error | Kind::Wrong => done.latency.max(PATIENCE),
            _ => done.latency,
        }));
        self.delays.push(micros(done.delay));
    }
}

struct Done {
    measured: bool,
    kind: Kind,
    why: String,
    latency: Duration,
    delay: Duration,
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

/// What the connections share.
struct Run {
    plan: Plan,
    /// Of the measured part.
    begin: Instant,
    end: Instant,
    /// One permit for each request that is due and not taken yet; open loop only.
    due: Semaphore,
    taken: AtomicU64,
    results: Mutex<Results>,
}

impl Run {
    /// Requests of an open loop, warm-up included.
    fn total(&self) -> u64 {
        let Some(rate) = self.plan.rate else { return 0 };
        let span = self.plan.warmup + self.plan.measured;
        (rate * span.as_secs()).min(self.plan.count)
    }

    fn due_at(&self, index: u64) -> Instant {
        let rate = u128::from(self.plan.rate.unwrap_or(1));
        let nanos = u128::from(index) * 1_000_000_000 / rate;
        self.begin - self.plan.warmup + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request and when it is due; none when the run is over.
    async fn next(&self) -> Option<(u64, Instant)> {
        if self.plan.rate.is_none() {
            let now = Instant::now();
            if now >= self.end {
                return None;
            }
            let index = self.taken.fetch_add(1, Ordering::Relaxed);
            return (index < self.plan.count).then_some((index, now));
        }
        self.due.acquire().await.ok()?.forget();
        let index = self.taken.fetch_add(1, Ordering::Relaxed);
        if index + 1 >= self.total() {
            // It was the last: those that wait for another go home.
            self.due.close();
        }
        Some((index, self.due_at(index)))
    }

    /// Makes requests due.
    fn clock(&self) {
        let total = self.total();
        let mut next = 0;
        while next < total {
            std::thread::sleep(
                self.due_at(next)
                    .saturating_duration_since(Instant::now())
                    .max(TICK),
            );
            let now = Instant::now();
            let mut permits = 0;
            while next < total && self.due_at(next) <= now {
                next += 1;
                permits += 1;
            }
            self.due.add_permits(permits);
        }
    }
}

/// Runs the load. Prints a line when the measured part begins.
pub async fn run(plan: Plan) -> anyhow::Result<Results> {
    let mut targets = plan.targets.iter().cycle();
    let mut clients = Vec::new();
    let mut idle = Vec::new();
    for number in 0..plan.connections + plan.idle {
        let target = targets.next().context("no target")?;
        let mut client = Client::new(target.clone());
        client.connect().await?;
        if number < plan.connections {
            clients.push(client);
        } else {
            // So that it waits for a next request, and not for its first.
            let path = "/v1/postback/check?clickid=idle";
            client.get(path).await.context("an idle connection")?;
            idle.push(client);
        }
    }
    let begin = Instant::now() + Duration::from_millis(50) + plan.warmup;
    let run = Arc::new(Run {
        begin,
        end: begin + plan.measured,
        due: Semaphore::new(0),
        taken: AtomicU64::new(0),
        results: Mutex::default(),
        plan,
    });
    let mut connections = JoinSet::new();
    for client in clients {
        connections.spawn(connection(Arc::clone(&run), client));
    }
    let clock = run.plan.rate.map(|_| {
        let run = Arc::clone(&run);
        // A thread of its own: the runtime's timers are only good to a millisecond.
        std::thread::spawn(move || run.clock())
    });
    let last = run.end + DRAIN;
    let all = async {
        tokio::time::sleep_until(run.begin.into()).await;
        let _ = writeln!(std::io::stdout(), r#"{{"measuring":true}}"#);
        while connections.join_next().await.is_some() {}
    };
    // Whoever is too slow is left behind, and counted below.
    let _ = tokio::time::timeout_at(last.into(), all).await;
    let took = run.begin.elapsed().min(run.plan.measured);
    connections.abort_all();
    if let Some(clock) = clock {
        let _ = clock.join();
    }
    drop(idle);
    let mut results = std::mem::take(&mut *run.results());
    let expected = match run.plan.rate {
        Some(_) => run.total(),
        None => run.taken.load(Ordering::Relaxed).min(run.plan.count),
    };
    let answered: u64 = results.all.values().sum();
    for _ in answered..expected {
        results.add(Done {
            measured: true,
            kind: Kind::Error,
            why: "no answer when the run ended".to_owned(),
            latency: DRAIN,
            delay: Duration::ZERO,
        });
    }
    results.latencies.sort_unstable();
    results.delays.sort_unstable();
    results.took = took;
    results.next = run.plan.first + expected;
    Ok(results)
}

async fn connection(run: Arc<Run>, mut client: Client) {
    let set = run.plan.set;
    while let Some((index, due)) = run.next().await {
        let number = run.plan.first + index;
        let aim = set.aim(number, run.plan.first, run.plan.shares);
        let delay = due.elapsed();
        let (clickid, revenue) = (set.clickid(aim.number()), set.revenue(aim.number()));
        let path = format!(
            "/v1/postback.php?clickid={clickid}&revenue={revenue}&currency=usd&subid0=US\
             &subid1=GoogleAds&txid=t{number}"
        );
        let answer = client.get(&path).await;
        let latency = due.elapsed();
        let (kind, why) = match answer {
            Ok(response) => judge(&response, set, aim),
            Err(error) => (Kind::Error, format!("no answer: {error}")),
        };
        run.results().add(Done {
            // A closed loop's last answers come when others have stopped.
            measured: due >= run.begin && (run.plan.rate.is_some() || due + latency <= run.end),
            kind,
            why,
            latency,
            delay,
        });
    }
}
