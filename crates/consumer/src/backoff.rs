//! How long a worker waits after a failure.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

/// Waits after failures: each twice as long as the one before, from the first to the longest, and
/// up to half of it shorter, so that consumers that failed together don't come back together.
#[derive(Default)]
pub(crate) struct Backoff {
    last: Option<(Instant, Duration)>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    /// A success in between doesn't count: reading the positions succeeds also where committing
    /// never does. Only time without a failure does.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = match self.last {
            Some((at, wait)) if at.elapsed() < wait + Self::LONGEST => {
                (wait * 2).min(Self::LONGEST)
            }
            _ => Self::FIRST,
        };
        self.last = Some((Instant::now(), wait));
        let random = RandomState::new().build_hasher().finish() % 1000;
        wait - wait / 2000 * u32::try_from(random).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let mut waits = Vec::new();
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            waits.push(backoff.next());
        }
        let within = |wait: Duration, whole: Duration| wait > whole / 2 && wait <= whole;
        assert!(within(waits[0], Backoff::FIRST), "{waits:?}");
        assert!(within(waits[3], Backoff::FIRST * 8), "{waits:?}");
        assert!(within(waits[9], Backoff::LONGEST), "{waits:?}");
        let firsts: Vec<_> = (0..10).map(|_| Backoff::default().next()).collect();
        assert!(firsts.iter().any(|wait| *wait != firsts[0]), "{firsts:?}");
    }
}
