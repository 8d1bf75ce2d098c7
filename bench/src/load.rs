//! The load: each request is due at its time, whatever became of the ones before.

use crate::Plan;
use crate::answer::{Expected, Kind, judge};
use crate::client::{Client, PATIENCE};
use crate::prepare::CAMPAIGN;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long after the last due time answers are waited for.
const DRAIN: Duration = Duration::from_secs(15);
/// Kinds of trouble that are told apart.
const REASONS: usize = 20;

/// What came of a run, without its warm-up.
#[derive(Debug, Default)]
pub struct Results {
    /// From due to answered, in microseconds; in no order until the run is over, then sorted. An
    /// error counts as [`PATIENCE`] at least: a refusal that comes at once is not a fast answer.
    pub latencies: Vec<u64>,
    /// The same of the standard answers alone.
    pub standard: Vec<u64>,
    /// From due to sent, alike.
    pub delays: Vec<u64>,
    /// How many of each kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// Why an answer was not the standard one, and how often; also of the warm-up.
    pub reasons: BTreeMap<String, u64>,
    /// Requests of the warm-up that got another than the standard answer.
    pub warmup_other: u64,
}

impl Results {
    pub fn count(&self, kind: Kind) -> u64 {
        self.kinds.get(&kind).copied().unwrap_or(0)
    }

    fn add(&mut self, plan: &Plan, done: Done) {
        if !done.why.is_empty() {
            let why: String = done.why.chars().take(200).collect();
            let known = self.reasons.len() < REASONS || self.reasons.contains_key(&why);
            let why = if known { why } else { "others".to_owned() };
            *self.reasons.entry(why).or_default() += 1;
        }
        if done.number < plan.warmup {
            self.warmup_other += u64::from(done.kind != Kind::Standard);
            return;
        }
        *self.kinds.entry(done.kind).or_default() += 1;
        self.latencies.push(micros(match done.kind {
            Kind::Error | Kind::Wrong => done.latency.max(PATIENCE),
            _ => done.latency,
        }));
        if done.kind == Kind::Standard {
            self.standard.push(micros(done.latency));
        }
        self.delays.push(micros(done.delay));
    }
}

struct Done {
    number: u64,
    kind: Kind,
    why: String,
    latency: Duration,
    delay: Duration,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What the connections share.
struct Run {
    plan: Plan,
    begin: Instant,
    /// One permit for each request that is due and not taken yet.
    due: Semaphore,
    taken: AtomicU64,
    /// Per request whether its result is in.
    results: Mutex<(Results, Vec<bool>)>,
}

impl Run {
    fn due_at(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.plan.rate);
        self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn record(&self, done: Done) {
        let mut locked = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = usize::try_from(done.number)
            .ok()
            .and_then(|number| locked.1.get_mut(number))
        {
            *seen = true;
        }
        locked.0.add(&self.plan, done);
    }
}

/// Runs the load.
pub async fn run(plan: &Plan) -> anyhow::Result<Results> {
    let mut clients = Vec::new();
    for target in plan.targets.iter().cycle() {
        if clients.len() as u64 == plan.connections {
            break;
        }
        let mut client = Client::new(target.clone());
        client.connect().await?;
        clients.push(client);
    }
    let run = Arc::new(Run {
        plan: Plan {
            targets: plan.targets.clone(),
            token: String::new(),
            ..*plan
        },
        begin: Instant::now() + Duration::from_millis(100),
        due: Semaphore::new(0),
        taken: AtomicU64::new(0),
        results: Mutex::new((
            Results::default(),
            vec![false; usize::try_from(plan.total)?],
        )),
    });
    let clock = Arc::clone(&run);
    // A thread of its own: the runtime's timers are only good to a millisecond.
    let clock = std::thread::spawn(move || {
        for number in 0..clock.plan.total {
            std::thread::sleep(
                clock
                    .due_at(number)
                    .saturating_duration_since(Instant::now()),
            );
            clock.due.add_permits(1);
        }
        clock.due_at(clock.plan.total)
    });
    let mut connections = JoinSet::new();
    for client in clients {
        connections.spawn(connection(Arc::clone(&run), client));
    }
    let end = run.due_at(plan.total) + DRAIN;
    let all = async { while connections.join_next().await.is_some() {} };
    // Whoever is too slow is left behind, and counted below.
    let _ = tokio::time::timeout_at(end.into(), all).await;
    connections.abort_all();
    let _ = clock.join();
    unanswered(&run);
    let mut locked = run.results.lock().unwrap_or_else(PoisonError::into_inner);
    let mut results = std::mem::take(&mut locked.0);
    results.latencies.sort_unstable();
    results.standard.sort_unstable();
    results.delays.sort_unstable();
    Ok(results)
}

async fn connection(run: Arc<Run>, mut client: Client) {
    loop {
        let Ok(permit) = run.due.acquire().await else {
            return;
        };
        permit.forget();
        let number = run.taken.fetch_add(1, Ordering::Relaxed);
        if number + 1 >= run.plan.total {
            // It was the last: those that wait for another go home.
            run.due.close();
        }
        let due = run.due_at(number);
        let delay = due.elapsed();
        let (clickid, revenue) = (run.plan.clickid(number), Plan::revenue(number));
        let path =
            format!("/v1/postback.php?clickid={clickid}&revenue={revenue}&subid0=US&txid={number}");
        let answer = client.get(&path).await;
        let latency = due.elapsed();
        let (kind, why) = match answer {
            Ok(response) => {
                let expected = Expected {
                    clickid: &clickid,
                    campaign_id: CAMPAIGN,
                    revenue: &revenue,
                };
                judge(&response, &expected)
            }
            Err(error) => (Kind::Error, format!("no answer: {error}")),
        };
        run.record(Done {
            number,
            kind,
            why,
            latency,
            delay,
        });
    }
}

/// Requests without a result are errors that took until now.
fn unanswered(run: &Run) {
    let missing: Vec<u64> = {
        let locked = run.results.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = (0..).zip(&locked.1);
        flags
            .filter(|(_, seen)| !**seen)
            .map(|(number, _)| number)
            .collect()
    };
    for number in missing {
        let latency = run.due_at(number).elapsed();
        run.record(Done {
            number,
            kind: Kind::Error,
            why: "no answer when the run ended".to_owned(),
            latency,
            delay: latency,
        });
    }
}
