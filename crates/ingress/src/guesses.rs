//! Addresses that name clicks nobody knows: past a number of them in a minute, their postbacks may
//! not wait for their clicks any more, so that one caller who makes ids up doesn't take the room of
//! all.

use postern_runtime::http::address;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are told apart within a window.
const ADDRESSES: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Guesses {
    most: u32,
    windows: Mutex<Windows>,
}

#[derive(Debug)]
struct Windows {
    since: Instant,
    now: HashMap<IpAddr, u32>,
    before: HashMap<IpAddr, u32>,
}

impl Guesses {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            windows: Mutex::new(Windows {
                since: Instant::now(),
                now: HashMap::new(),
                before: HashMap::new(),
            }),
        }
    }

    /// One more click that nobody knows.
    pub(crate) fn count(&self, address: IpAddr) {
        let mut windows = self.lock();
        let network = address::network(address);
        if windows.now.len() < ADDRESSES || windows.now.contains_key(&network) {
            let count = windows.now.entry(network).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Whether the postbacks of this address may wait.
    pub(crate) fn may_wait(&self, address: IpAddr) -> bool {
        let windows = self.lock();
        let network = address::network(address);
        let over = |counts: &HashMap<_, _>| counts.get(&network).is_some_and(|n| *n >= self.most);
        !over(&windows.now) && !over(&windows.before)
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = windows.since.elapsed();
        if passed >= WINDOW {
            let ended = std::mem::take(&mut windows.now);
            windows.before = if passed < 2 * WINDOW {
                ended
            } else {
                HashMap::new()
            };
            windows.since = Instant::now();
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_guesses_has_to_pause() {
        let guesses = Guesses::new(3);
        let [a, b]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        guesses.count(a);
        guesses.count(a);
        assert!(guesses.may_wait(a));
        guesses.count(a);
        assert!(!guesses.may_wait(a) && guesses.may_wait(b));
        tokio::time::advance(WINDOW).await;
        assert!(!guesses.may_wait(a), "the minute before counts too");
        tokio::time::advance(WINDOW).await;
        assert!(guesses.may_wait(a));
    }
}
