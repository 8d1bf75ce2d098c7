//! Whether what is handed over is acknowledged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What one client's deliveries tell. Times are microseconds since it was made, counted from 1.
#[derive(Debug)]
pub(super) struct Progress {
    made: Instant,
    /// Of the last success; 0 for none.
    succeeded: AtomicU64,
    /// Since when records are waiting, or were given up, without one success; 0 for not.
    waiting: AtomicU64,
    /// Partitions whose records are given up, since when. As many as there are partitions.
    failing: Mutex<HashMap<(String, i32), Instant>>,
    any_failing: AtomicBool,
}

/// What stands still.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Still {
    /// The partition; `None` for all.
    pub(super) place: Option<(String, i32)>,
    pub(super) why: String,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            succeeded: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            failing: Mutex::default(),
            any_failing: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// A record is on its way. To be called before it is.
    pub(super) fn handed_over(&self) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            self.wait();
        }
    }

    pub(super) fn succeeded(&self, topic: &str, partition: i32) {
        self.succeeded.store(self.now(), Ordering::Relaxed);
        self.waiting.store(0, Ordering::Relaxed);
        if self.any_failing.load(Ordering::Relaxed) {
            let mut failing = self.failing();
            failing.remove(&(topic.to_owned(), partition));
            self.any_failing
                .store(!failing.is_empty(), Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self, topic: &str, partition: i32) {
        self.wait();
        let mut failing = self.failing();
        failing
            .entry((topic.to_owned(), partition))
            .or_insert_with(Instant::now);
        self.any_failing.store(true, Ordering::Relaxed);
    }

    pub(super) fn last_success(&self) -> Option<Instant> {
        match self.succeeded.load(Ordering::Relaxed) {
            0 => None,
            at => Some(self.made + Duration::from_micros(at)),
        }
    }

    /// What has stood still for longer than `patience`, if anything has.
    pub(super) fn standstill(&self, patience: Duration) -> Option<Still> {
        let since = self.waiting.load(Ordering::Relaxed);
        if since > 0 {
            let waited = Duration::from_micros(self.now().saturating_sub(since));
            if waited > patience {
                return Some(Still {
                    place: None,
                    why: format!("nothing was acknowledged for {waited:.1?}"),
                });
            }
        }
        let failing = self.failing();
        let ((topic, partition), since) = failing.iter().min_by_key(|(_, since)| **since)?;
        let waited = since.elapsed();
        (waited > patience).then(|| Still {
            place: Some((topic.clone(), *partition)),
            why: format!(
                "nothing was acknowledged in {topic} partition {partition} for {waited:.1?}"
            ),
        })
    }

    fn wait(&self) {
        let _ = self
            .waiting
            .compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        let elapsed = self.made.elapsed().as_micros();
        u64::try_from(elapsed).unwrap_or(u64::MAX - 1) + 1
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<(String, i32), Instant>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn waiting_without_success_is_a_standstill_and_a_success_ends_it() {
        let progress = Progress::default();
        std::thread::sleep(SOON * 2);
        assert_eq!(progress.standstill(SOON), None, "nobody waits");
        progress.handed_over();
        assert_eq!(progress.standstill(SOON), None);
        std::thread::sleep(SOON * 2);
        progress.handed_over();
        assert!(progress.standstill(SOON).is_some());
        progress.succeeded("clicks", 1);
        assert_eq!(progress.standstill(SOON), None);
        assert!(progress.last_success().is_some());
    }

    #[test]
    fn a_partition_of_which_all_is_given_up_is_a_standstill_beside_others_that_go_on() {
        let progress = Progress::default();
        progress.failed("clicks", 3);
        progress.succeeded("clicks", 1);
        std::thread::sleep(SOON * 2);
        progress.failed("clicks", 3);
        progress.succeeded("clicks", 1);
        let why = progress.standstill(SOON);
        assert!(why.is_some_and(|still| still.why.contains("clicks partition 3")));
        progress.succeeded("clicks", 3);
        assert_eq!(progress.standstill(SOON), None);
    }
}
