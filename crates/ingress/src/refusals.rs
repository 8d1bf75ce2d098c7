//! Refused postbacks on their way into the log, capped per address and in total.
//!
//! A refusal makes no conversion, so its answer doesn't hang on the log: what exceeds the caps,
//! or what neither Kafka nor the spool takes, is counted.

use crate::config::IngressConfig;
use crate::metrics::IngressMetrics;
use crate::outlet::{Outlet, Record};
use crate::per_address::PerAddress;
use crate::spooled::Topic;
use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use postern_core::record::reject::Reject;
use std::net::IpAddr;
use std::num::NonZeroU32;

pub(crate) struct Refusals {
    outlet: Outlet,
    per_address: PerAddress,
    total: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
    metrics: IngressMetrics,
}

impl Refusals {
    pub(crate) fn new(outlet: Outlet, config: &IngressConfig, metrics: IngressMetrics) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            outlet,
            per_address: PerAddress::per_minute(at_least_one(config.refusals_per_address)),
            total: RateLimiter::direct(Quota::per_second(at_least_one(config.refusals_total))),
            metrics,
        }
    }

    /// Makes the refusal durable, unless a cap is reached.
    pub(crate) async fn log(&self, address: IpAddr, reject: &Reject) {
        let result = if !self.per_address.admits(address) {
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
