//! Refused postbacks on their way into the log, capped per address and in total.
//!
//! A refusal makes no conversion, so its answer doesn't hang on the log: what exceeds the caps,
//! or what neither Kafka nor the spool takes, is counted.

use crate::config::IngressConfig;
use crate::metrics::IngressMetrics;
use crate::outlet::{Outlet, Record};
use crate::spooled::Topic;
use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use postern_core::record::reject::Reject;
use postern_runtime::http::address;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

/// Keys that no longer matter are dropped after so many refusals.
const PRUNE_EVERY: u32 = 4096;

pub(crate) struct Refusals {
    outlet: Outlet,
    per_address: DefaultKeyedRateLimiter<IpAddr>,
    total: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
    since_prune: AtomicU32,
    metrics: IngressMetrics,
}

impl Refusals {
    pub(crate) fn new(outlet: Outlet, config: &IngressConfig, metrics: IngressMetrics) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            outlet,
            per_address: RateLimiter::keyed(Quota::per_minute(at_least_one(
                config.refusals_per_address,
            ))),
            total: RateLimiter::direct(Quota::per_second(at_least_one(config.refusals_total))),
            since_prune: AtomicU32::new(0),
            metrics,
        }
    }

    /// Makes the refusal durable, unless a cap is reached.
    pub(crate) async fn log(&self, address: IpAddr, reject: &Reject) {
        let result = if self
            .per_address
            .check_key(&address::network(address))
            .is_err()
        {
            Err("address_cap")
        } else if self.total.check().is_err() {
            Err("total_cap")
        } else {
            self.publish(reject).await
        };
        if let Err(reason) = result {
            self.metrics
                .refusals_suppressed
                .with_label_values(&[reason])
                .inc();
        }
        if self.since_prune.fetch_add(1, Ordering::Relaxed) % PRUNE_EVERY == PRUNE_EVERY - 1 {
            self.per_address.retain_recent();
        }
    }

    async fn publish(&self, reject: &Reject) -> Result<(), &'static str> {
        let key = reject.request_id.to_string();
        let value = reject.encode();
        let record = Record {
            topic: Topic::Rejects,
            key: key.as_bytes(),
            value: &value,
            request_id: None,
            headers: &[],
        };
        match self.outlet.keep_if_room(&record).await {
            Ok(_) => Ok(()),
            Err(_) => Err("not_published"),
        }
    }
}
