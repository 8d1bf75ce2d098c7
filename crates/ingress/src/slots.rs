//! How many requests are answered at a time.
//!
//! Up to a fixed number; fewer while even the fastest answers take too long: then more wait than
//! can be worked off, and each that is let in makes all of them slower. What is turned away is told
//! so at once.
//!
//! Where fewer don't make them faster, it isn't for their number that they are slow (a store that takes
//! its time): then nobody is turned away, and what they take is usual from there on.
//!
//! Only verdicts count. Where none come, or late, the verdict breaker sees to it that nobody waits;
//! that is no reason to turn anybody away.

use prometheus::IntGauge;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Within which one fast answer is enough.
const INTERVAL: Duration = Duration::from_millis(100);
/// Intervals in a row without one: less is a hiccup.
const SLOW: u32 = 3;
/// Verdicts that say something about an interval.
const ENOUGH: u32 = 10;
/// Too long, and in terms of what is usual: the fastest answer of the last minutes.
const TIMES_USUAL: u32 = 3;
const USUAL_SINCE: Duration = Duration::from_secs(300);
/// Never fewer than these.
const LEAST: usize = 64;

#[derive(Debug)]
pub(crate) struct Slots {
    most: usize,
    target: Duration,
    taken: AtomicUsize,
    limit: AtomicUsize,
    watch: Mutex<Watch>,
    shown: IntGauge,
}

#[derive(Debug)]
struct Watch {
    since: Instant,
    fastest: Duration,
    verdicts: u32,
    slow: u32,
    /// What the fastest took when there were to be fewer for the last time.
    cut: Option<Duration>,
    usual: [Duration; 2],
    usual_since: Instant,
}

/// A slot that is taken until it is dropped.
pub(crate) struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Slots {
    /// `most` at a time; fewer while no answer takes less than `target`. `shown` is how many.
    pub(crate) fn new(most: usize, target: Duration, shown: IntGauge) -> Self {
        let slots = Self {
            most,
            target,
            taken: AtomicUsize::new(0),
            limit: AtomicUsize::new(most),
            watch: Mutex::new(Watch {
                since: Instant::now(),
                fastest: Duration::MAX,
                verdicts: 0,
                slow: 0,
                cut: None,
                usual: [Duration::MAX; 2],
                usual_since: Instant::now(),
            }),
            shown,
        };
        slots.set(most);
        slots
    }

    /// A slot, if one is free.
    pub(crate) fn take(&self) -> Option<Slot<'_>> {
        let slot = Slot(&self.taken);
        let taken = self.taken.fetch_add(1, Ordering::AcqRel);
        (taken < self.limit.load(Ordering::Acquire)).then_some(slot)
    }

    /// A verdict came, so long after its request.
    pub(crate) fn hear(&self, took: Duration) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.fastest = watch.fastest.min(took);
        watch.verdicts += 1;
        watch.usual[0] = watch.usual[0].min(took);
        let now = Instant::now();
        if now - watch.since < INTERVAL {
            return;
        }
        let usual = watch.usual[0].min(watch.usual[1]);
        let target = self.target.max(usual.saturating_mul(TIMES_USUAL));
        let slow = watch.fastest > target && watch.verdicts >= ENOUGH;
        watch.slow = if slow { watch.slow + 1 } else { 0 };
        let limit = self.limit.load(Ordering::Acquire);
        if watch.slow >= SLOW {
            let fastest = watch.fastest;
            if watch.cut.is_some_and(|before| fastest > before * 4 / 5) {
                self.set(self.most);
                watch.usual = [fastest; 2];
                watch.cut = None;
            } else {
                let taken = self.taken.load(Ordering::Acquire).min(limit);
                self.set((taken / 2).max(LEAST).min(self.most));
                watch.cut = Some(fastest);
            }
            watch.slow = 0;
        } else if !slow && limit < self.most {
            self.set((limit + (limit / 16).max(4)).min(self.most));
        } else if !slow {
            watch.cut = None;
        }
        watch.since = now;
        watch.fastest = Duration::MAX;
        watch.verdicts = 0;
        if now - watch.usual_since >= USUAL_SINCE {
            watch.usual = [Duration::MAX, watch.usual[0]];
            watch.usual_since = now;
        }
    }

    fn set(&self, limit: usize) {
        self.limit.store(limit, Ordering::Release);
        self.shown.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn slots(most: usize) -> Slots {
        let shown = IntGauge::new("limit", "limit").unwrap();
        Slots::new(most, Duration::from_millis(50), shown)
    }

    /// Intervals in which all answers take so long.
    async fn intervals(slots: &Slots, took: u64, count: u32) {
        for _ in 0..count {
            for _ in 0..ENOUGH {
                slots.hear(Duration::from_millis(took));
            }
            tokio::time::advance(INTERVAL).await;
            slots.hear(Duration::from_millis(took));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many() {
        let slots = slots(2);
        let (one, two) = (slots.take(), slots.take());
        assert!(one.is_some() && two.is_some() && slots.take().is_none());
        drop(one);
        assert!(slots.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_while_all_answers_are_slow() {
        let slots = slots(1000);
        intervals(&slots, 5, 3).await;
        let taken: Vec<_> = (0..800).map(|_| slots.take().unwrap()).collect();
        intervals(&slots, 80, 2).await;
        assert_eq!(slots.shown.get(), 1000, "a hiccup");
        intervals(&slots, 800, 1).await;
        assert_eq!(slots.shown.get(), 400);
        assert!(slots.take().is_none(), "until there are fewer");
        for took in [600, 400, 300, 200, 120] {
            intervals(&slots, took, SLOW).await;
        }
        assert_eq!(slots.shown.get(), 64, "no fewer than these");
        drop(taken);
        intervals(&slots, 20, 100).await;
        assert_eq!(slots.shown.get(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_turned_away_where_that_makes_nothing_faster() {
        let slots = slots(1000);
        intervals(&slots, 5, 3).await;
        intervals(&slots, 120, SLOW).await;
        assert_eq!(slots.shown.get(), 64);
        intervals(&slots, 120, SLOW).await;
        assert_eq!(slots.shown.get(), 1000);
        intervals(&slots, 120, 20).await;
        assert_eq!(slots.shown.get(), 1000, "it is usual now");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_always_been_slow_is_usual() {
        let slots = slots(1000);
        intervals(&slots, 300, 20).await;
        assert_eq!(slots.shown.get(), 1000);
    }
}
