//! Things that are done now and then only, such as lines in the log about the same trouble.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// At most one of those who ask within this time is told to.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Occasion {
    started: Instant,
    /// Milliseconds after `started` of the last time, counted from 1; 0 for never.
    last: AtomicU64,
    passed: AtomicU64,
}

impl Default for Occasion {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last: AtomicU64::new(0),
            passed: AtomicU64::new(0),
        }
    }
}

impl Occasion {
    /// How many have asked since the last time, this one among them, where it is time again.
    pub(crate) fn is_due(&self) -> Option<u64> {
        self.passed.fetch_add(1, Ordering::Relaxed);
        let elapsed = self.started.elapsed().as_millis();
        let now = u64::try_from(elapsed).unwrap_or(u64::MAX - 1) + 1;
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || u128::from(now.saturating_sub(last)) >= EVERY.as_millis();
        let mine = due
            && self
                .last
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        mine.then(|| self.passed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_many_is_told_and_how_many_they_were() {
        let occasion = Occasion::default();
        assert_eq!(occasion.is_due(), Some(1));
        assert_eq!((occasion.is_due(), occasion.is_due()), (None, None));
        tokio::time::advance(EVERY).await;
        assert_eq!(occasion.is_due(), Some(3));
        assert_eq!(occasion.is_due(), None);
    }
}
