//! Whether this ingress can make a postback durable: what readiness hangs on.
//!
//! Kafka counts while its deliveries succeed, whatever it says of itself; an idle process tries
//! with an empty batch of verdicts for itself. The spool counts while it has room and a file in
//! its directory can be fsynced.

use crate::metrics::IngressMetrics;
use crate::outlet::{DISK_PATIENCE, Outlet};
use crate::verdicts::ReplyAddress;
use jiff::Timestamp;
use postern_core::record::verdict::VerdictBatch;
use postern_kafka::{Message, VERDICTS};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Without a delivery for so long, one is tried.
const IDLE: Duration = Duration::from_secs(3);
/// Without a delivery for so long, Kafka doesn't count.
const STALE: Duration = Duration::from_secs(8);
/// Between two tries of the spool: while all is well, and while it is needed.
const TRY_SPOOL: Duration = Duration::from_secs(10);
const TRY_SPOOL_SOON: Duration = Duration::from_secs(1);

/// Where a postback can be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In Kafka, with the spool behind it where there is to be one.
    Kafka,
    /// In Kafka, while the spool can't be used.
    KafkaOnly(String),
    /// In the spool, while Kafka doesn't acknowledge.
    SpoolOnly(String),
    /// Nowhere.
    Nowhere(String),
}

/// Looks after durability.
pub struct DurabilityWatch {
    pub(crate) outlet: Outlet,
    pub(crate) reply: ReplyAddress,
    pub(crate) instance: String,
    pub(crate) metrics: IngressMetrics,
}

impl DurabilityWatch {
    /// Tells `report` how it stands, until `stop`.
    pub async fn run(self, stop: CancellationToken, report: impl Fn(Durability)) {
        let mut tried = Instant::now() - IDLE;
        let mut spool = (None, Instant::now());
        loop {
            let fresh = self.since_delivery();
            if fresh.is_none_or(|since| since >= IDLE) && tried.elapsed() >= IDLE {
                tried = Instant::now();
                self.try_kafka();
            }
            if let Some(since) = fresh {
                self.outlet.breaker.heard(Instant::now() - since);
            }
            let kafka = fresh.is_some_and(|since| since < STALE);
            let pause = if kafka { TRY_SPOOL } else { TRY_SPOOL_SOON };
            if spool.0.is_none() || spool.1.elapsed() >= pause {
                spool = (Some(self.try_spool().await), Instant::now());
            }
            if let (_, Some(spool)) = (kafka, &spool.0) {
                report(standing(kafka, self.outlet.spool.is_some(), spool));
            }
            self.measure();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Since a record was acknowledged; `None` where none was, or none may be sent.
    fn since_delivery(&self) -> Option<Duration> {
        self.outlet.gate.partitions()?;
        Some(self.outlet.producer.last_success()?.elapsed())
    }

    fn try_kafka(&self) {
        if self.outlet.gate.partitions().is_none() {
            return;
        }
        let value = VerdictBatch::new(self.instance.clone(), Vec::new()).encode();
        // What becomes of it is seen when it succeeds.
        let _ = self.outlet.producer.publish(&Message {
            topic: VERDICTS,
            key: self.instance.as_bytes(),
            value: &value,
            partition: Some(self.reply.partition()),
            headers: &[],
        });
    }

    async fn try_spool(&self) -> Result<(), String> {
        match &self.outlet.spool {
            Some(spool) => match tokio::time::timeout(DISK_PATIENCE, spool.check()).await {
                Ok(checked) => checked.map_err(|error| error.to_string()),
                Err(_) => Err(format!(
                    "the spool's disk didn't answer for {DISK_PATIENCE:?}"
                )),
            },
            None => Err("there is no spool (spool.max_bytes is 0)".to_owned()),
        }
    }

    fn measure(&self) {
        let Some(spool) = &self.outlet.spool else {
            return;
        };
        let status = spool.status();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.spool_entries.set(gauge(status.entries));
        self.metrics.spool_bytes.set(gauge(status.bytes));
        let most = usize::try_from(status.max_bytes).unwrap_or(usize::MAX);
        self.metrics.limit("spool_bytes", most);
        self.metrics.spool_set_aside.set(gauge(status.set_aside));
        let age = status.oldest.map_or(0.0, |oldest| {
            Timestamp::now().duration_since(oldest).as_secs_f64()
        });
        self.metrics.spool_oldest.set(age.max(0.0));
    }
}

fn standing(kafka: bool, wanted: bool, spool: &Result<(), String>) -> Durability {
    match (kafka, spool) {
        (true, Err(why)) if wanted => Durability::KafkaOnly(why.clone()),
        (true, _) => Durability::Kafka,
        (false, Ok(())) => Durability::SpoolOnly(
            "kafka doesn't acknowledge: postbacks are spooled and answered queued".to_owned(),
        ),
        (false, Err(why)) => Durability::Nowhere(format!("kafka doesn't acknowledge, and {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_both_is_enough_and_a_spool_that_nobody_wants_is_not_missed() {
        let broken = || Err("the disk is full".to_owned());
        assert_eq!(standing(true, true, &Ok(())), Durability::Kafka);
        assert_eq!(standing(true, false, &broken()), Durability::Kafka);
        let kafka_only = standing(true, true, &broken());
        assert!(matches!(kafka_only, Durability::KafkaOnly(_)));
        let spool_only = standing(false, true, &Ok(()));
        assert!(matches!(spool_only, Durability::SpoolOnly(_)));
        let nowhere = standing(false, true, &broken());
        assert!(matches!(nowhere, Durability::Nowhere(why) if why.contains("disk")));
    }
}
