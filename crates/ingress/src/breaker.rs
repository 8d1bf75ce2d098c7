//! The verdict breaker: where verdicts have stopped coming, nobody waits for one.
//!
//! One state per postbacks partition, since a partition is what a consumer can fail to serve.
//! While it is open, postbacks are answered `queued` at once, but for one probe at a time that
//! waits as usual; the first verdict that a probe gets closes it.

use prometheus::IntGauge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// So many waits in a row without a verdict open the breaker.
const OPEN_AFTER: u32 = 5;

#[derive(Debug)]
struct Partition {
    missed: u32,
    /// When the last verdict came, or the partition was first seen.
    last_verdict: Instant,
    probing: bool,
}

impl Partition {
    fn is_open(&self) -> bool {
        self.missed >= OPEN_AFTER
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

    /// Whether to wait for a verdict of this partition: `None` is no.
    pub(crate) fn admit(&self, number: i32) -> Option<Wait> {
        let mut partitions = self.lock();
        let partition = partitions.entry(number).or_insert_with(|| Partition {
            missed: 0,
            last_verdict: Instant::now(),
            probing: false,
        });
        let probe = partition.is_open();
        if probe && std::mem::replace(&mut partition.probing, true) {
            return None;
        }
        Some(Wait {
            breaker: self.clone(),
            partition: number,
            since: Instant::now(),
            probe,
        })
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
                        "no verdicts come from this partition: postbacks are answered queued; \
                         see whether its consumer runs and keeps up"
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
        self.breaker.update(self.partition, |partition| {
            partition.missed = 0;
            partition.last_verdict = Instant::now();
        });
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
        let waits: Vec<_> = (0..OPEN_AFTER).map(|_| breaker.admit(3).unwrap()).collect();
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        waits.into_iter().for_each(Wait::missed);
        assert_eq!(breaker.open.get(), 1);
        let probe = breaker.admit(3).unwrap();
        assert!(breaker.admit(3).is_none());
        assert!(
            breaker.admit(4).is_some(),
            "other partitions are not concerned"
        );
        drop(probe);
        let probe = breaker.admit(3).unwrap();
        probe.verdict();
        assert_eq!(breaker.open.get(), 0);
        assert!(breaker.admit(3).is_some() && breaker.admit(3).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn verdicts_in_between_keep_it_closed() {
        let breaker = breaker();
        for _ in 0..3 * OPEN_AFTER {
            let slow = breaker.admit(0).unwrap();
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            breaker.admit(0).unwrap().verdict();
            slow.missed();
        }
        assert_eq!(breaker.open.get(), 0);
    }
}
