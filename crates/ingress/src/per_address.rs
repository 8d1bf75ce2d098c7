//! Limits for each caller's address; for IPv6 for its /64, of which anybody has as many addresses as
//! he likes.

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use postern_runtime::http::address;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses whose limit is untouched again are dropped after so many questions.
const PRUNE_EVERY: u32 = 4096;

pub(crate) struct PerAddress {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    since_prune: AtomicU32,
}

impl PerAddress {
    pub(crate) fn per_second(most: NonZeroU32) -> Self {
        Self::new(Quota::per_second(most))
    }

    pub(crate) fn per_minute(most: NonZeroU32) -> Self {
        Self::new(Quota::per_minute(most))
    }

    fn new(quota: Quota) -> Self {
        Self {
            limiter: RateLimiter::keyed(quota),
            since_prune: AtomicU32::new(0),
        }
    }

    /// Whether this address may have one more.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        if self.since_prune.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY == PRUNE_EVERY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(&address::network(address)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_own_and_old_ones_go() {
        let limit = PerAddress::per_second(NonZeroU32::MIN.saturating_add(1));
        let [a, b, c]: [IpAddr; 3] = [
            [192, 0, 2, 1].into(),
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
            [0x2001, 0xdb8, 0, 0, 9, 9, 9, 9].into(),
        ];
        assert!(limit.admits(a) && limit.admits(a) && !limit.admits(a));
        assert!(
            limit.admits(b) && limit.admits(c) && !limit.admits(b),
            "one /64"
        );
        for number in 0..PRUNE_EVERY {
            limit.admits(IpAddr::V4(number.into()));
        }
        std::thread::sleep(std::time::Duration::from_millis(1600));
        for _ in 0..PRUNE_EVERY {
            limit.admits(a);
        }
        assert_eq!(limit.limiter.len(), 1);
    }
}
