//! Refused postbacks on their way into the log, capped per address and in total.
//!
//! A refusal makes no conversion, so its answer doesn't hang on the log: what exceeds the caps,
//! or what Kafka doesn't take, is counted.

use crate::config::IngressConfig;
use crate::metrics::IngressMetrics;
use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use postern_core::record::reject::Reject;
use postern_kafka::{Message, Producer, REJECTS};
use postern_runtime::http::address;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Keys that no longer matter are dropped after so many refusals.
const PRUNE_EVERY: u32 = 4096;

pub(crate) struct Refusals {
    producer: Producer,
    per_address: DefaultKeyedRateLimiter<IpAddr>,
    total: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
    since_prune: AtomicU32,
    wait: Duration,
    metrics: IngressMetrics,
}

impl Refusals {
    pub(crate) fn new(producer: Producer, config: &IngressConfig, metrics: IngressMetrics) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            producer,
            per_address: RateLimiter::keyed(Quota::per_minute(at_least_one(
                config.refusals_per_address,
            ))),
            total: RateLimiter::direct(Quota::per_second(at_least_one(config.refusals_total))),
            since_prune: AtomicU32::new(0),
            wait: config.answer_timeout,
            metrics,
        }
    }

    /// Publishes the refusal, unless a cap is reached, and waits for the acknowledgement.
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
        let delivery = self
            .producer
            .publish(&Message::keyed(REJECTS, key.as_bytes(), &value))
            .map_err(|_| "not_published")?;
        match tokio::time::timeout(self.wait, delivery).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err("not_published"),
        }
    }
}
