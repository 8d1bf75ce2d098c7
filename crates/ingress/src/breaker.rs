//! The verdict breaker: where verdicts have stopped coming, or only come late, nobody waits for
//! one.
//!
//! One state per postbacks partition, since a partition is what a consumer can fail to serve.
//! While it is open, postbacks are answered `queued` at once, but for one probe at a time that
//! waits as usual; the first verdict that a probe gets in good time closes it.
//!
//! Late is where a backlog stands before the consumer, and grows: not one of an interval's verdicts
//! came in good time. A burst that is worked off within the interval isn't that, nor is a consumer that
//! has always been slow.

use prometheus::IntGauge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// So many waits in a row without a verdict open the breaker.
const OPEN_AFTER: u32 = 5;
/// Within which one verdict in good time is enough.
const INTERVAL: Duration = Duration::from_millis(200);
/// Verdicts of an interval that say something about it.
const ENOUGH: u32 = 10;
/// Good time, whatever is usual.
const GOOD_TIME: Duration = Duration::from_millis(200);
/// And in terms of what is usual: the fastest verdict of the last minutes.
const TIMES_USUAL: u32 = 4;
const USUAL_SINCE: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Partition {
    missed: u32,
    /// When the last verdict came, or the partition was first seen.
    last_verdict: Instant,
    probing: bool,
    late: bool,
    interval: Fastest,
    /// Those of the last minutes, and of as many before them.
    usual: [Fastest; 2],
}

/// The fastest of some verdicts.
#[derive(Clone, Copy, Debug)]
struct Fastest {
    since: Instant,
    took: Duration,
    verdicts: u32,
}

impl Fastest {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            took: Duration::MAX,
            verdicts: 0,
        }
    }

    fn hear(&mut self, took: Duration) {
        self.took = self.took.min(took);
        self.verdicts = self.verdicts.saturating_add(1);
    }
}

impl Partition {
    fn new(now: Instant) -> Self {
        Self {
            missed: 0,
            last_verdict: now,
            probing: false,
            late: false,
            interval: Fastest::new(now),
            usual: [Fastest::new(now); 2],
        }
    }

    fn is_open(&self) -> bool {
        self.missed >= OPEN_AFTER || self.late
    }

    fn good_time(&self) -> Duration {
        let usual = self.usual[0].took.min(self.usual[1].took);
        GOOD_TIME.max(usual.saturating_mul(TIMES_USUAL))
    }

    /// A verdict came.
    fn hear(&mut self, took: Duration) {
        let now = Instant::now();
        self.missed = 0;
        self.last_verdict = now;
        self.interval.hear(took);
        self.usual[0].hear(took);
        if took <= self.good_time() {
            self.late = false;
        }
        if now - self.interval.since >= INTERVAL {
            let interval = std::mem::replace(&mut self.interval, Fastest::new(now));
            self.late |= interval.verdicts >= ENOUGH && interval.took > self.good_time();
        }
        if now - self.usual[0].since >= USUAL_SINCE {
            self.usual = [Fastest::new(now), self.usual[0]];
        }
    }
}

/// The breaker. Clones share it. Holds one entry per partition ever published to.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    partitions: Arc<Mutex<HashMap<i32, Partition>>>,
    open: IntGauge,
}

impl Breaker {
    /// A closed breaker; `open` shows how many partitions are open.
    pub(crate) fn new(open: IntGauge) -> Self {
        Self {
            partitions: Arc::default(),
            open,
        }
    }

    /// Whether everybody waits for the verdicts of this partition.
    pub(crate) fn is_closed(&self, number: i32) -> bool {
        let mut partitions = self.lock();
        !of(&mut partitions, number).is_open()
    }

    /// Whether to wait for a verdict of this partition, whose postback was acknowledged at
    /// `since`: `None` is no.
    pub(crate) fn admit(&self, number: i32, since: Instant) -> Option<Wait> {
        let mut partitions = self.lock();
        let partition = of(&mut partitions, number);
        let probe = partition.is_open();
        if probe && std::mem::replace(&mut partition.probing, true) {
            return None;
        }
        Some(Wait {
            breaker: self.clone(),
            partition: number,
            since,
            probe,
        })
    }

    /// A verdict came, of a postback that was acknowledged at `since`.
    pub(crate) fn verdict(&self, number: i32, since: Instant) {
        let took = since.elapsed();
        self.update(number, |partition| partition.hear(took));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Partition>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, number: i32, change: impl FnOnce(&mut Partition)) {
        let mut partitions = self.lock();
        if let Some(partition) = partitions.get_mut(&number) {
            let before = partition.is_open();
            change(partition);
            match (before, partition.is_open()) {
                (false, true) => {
                    self.open.inc();
                    tracing::warn!(
                        partition = number,
                        late = partition.late,
                        "no verdicts come from this partition, or only late: postbacks are \
                         answered queued; see whether its consumer runs and keeps up"
                    );
                }
                (true, false) => {
                    self.open.dec();
                    tracing::info!(partition = number, "verdicts come again");
                }
                _ => {}
            }
        }
    }
}

fn of(partitions: &mut HashMap<i32, Partition>, number: i32) -> &mut Partition {
    partitions
        .entry(number)
        .or_insert_with(|| Partition::new(Instant::now()))
}

/// A permission to wait. Dropped without a word (the caller has gone), it counts as neither.
pub(crate) struct Wait {
    breaker: Breaker,
    partition: i32,
    since: Instant,
    probe: bool,
}

impl Wait {
    /// A verdict came.
    pub(crate) fn verdict(self) {
        self.breaker.verdict(self.partition, self.since);
    }

    /// None came in time. Counts only where no other verdict came meanwhile: one slow record
    /// is not a partition that stands still.
    pub(crate) fn missed(self) {
        self.breaker.update(self.partition, |partition| {
            if partition.last_verdict <= self.since {
                partition.missed = partition.missed.saturating_add(1);
            }
        });
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.probe
            && let Some(partition) = self.breaker.lock().get_mut(&self.partition)
        {
            partition.probing = false;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(IntGauge::new("open", "open").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_misses_in_a_row_lets_one_probe_pass_and_closes_on_its_verdict() {
        let breaker = breaker();
        let waits: Vec<_> = (0..OPEN_AFTER)
            .map(|_| breaker.admit(3, Instant::now()).unwrap())
            .collect();
        tokio::time::advance(Duration::from_secs(2)).await;
        waits.into_iter().for_each(Wait::missed);
        assert_eq!(breaker.open.get(), 1);
        let probe = breaker.admit(3, Instant::now()).unwrap();
        assert!(breaker.admit(3, Instant::now()).is_none());
        assert!(
            breaker.admit(4, Instant::now()).is_some(),
            "other partitions are not concerned"
        );
        drop(probe);
        let probe = breaker.admit(3, Instant::now()).unwrap();
        probe.verdict();
        assert_eq!(breaker.open.get(), 0);
        assert!(
            breaker.admit(3, Instant::now()).is_some()
                && breaker.admit(3, Instant::now()).is_some()
        );
    }

    /// Several callers at a time, for a while, whose verdicts take so long.
    async fn verdicts(breaker: &Breaker, took: Duration, rounds: u32) {
        for _ in 0..rounds {
            let waits: Vec<_> = (0..ENOUGH)
                .filter_map(|_| breaker.admit(0, Instant::now()))
                .collect();
            tokio::time::advance(took).await;
            waits.into_iter().for_each(Wait::verdict);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backlog_that_stands_opens_it_and_a_verdict_in_good_time_closes_it() {
        let breaker = breaker();
        verdicts(&breaker, Duration::from_millis(8), 20).await;
        verdicts(&breaker, Duration::from_millis(300), 1).await;
        assert_eq!(breaker.open.get(), 0, "a burst");
        verdicts(&breaker, Duration::from_millis(8), 40).await;
        verdicts(&breaker, Duration::from_millis(300), 4).await;
        assert_eq!(breaker.open.get(), 1);
        let probe = breaker.admit(0, Instant::now()).unwrap();
        assert!(breaker.admit(0, Instant::now()).is_none());
        tokio::time::advance(Duration::from_millis(300)).await;
        probe.verdict();
        assert_eq!(breaker.open.get(), 1, "still late");
        let probe = breaker.admit(0, Instant::now()).unwrap();
        tokio::time::advance(Duration::from_millis(20)).await;
        probe.verdict();
        assert_eq!(breaker.open.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_consumer_that_is_always_slow_is_waited_for() {
        let breaker = breaker();
        verdicts(&breaker, Duration::from_millis(400), 20).await;
        assert_eq!(breaker.open.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn verdicts_in_between_keep_it_closed() {
        let breaker = breaker();
        for _ in 0..3 * OPEN_AFTER {
            let slow = breaker.admit(0, Instant::now()).unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
            breaker.admit(0, Instant::now()).unwrap().verdict();
            slow.missed();
        }
        assert_eq!(breaker.open.get(), 0);
    }
}
