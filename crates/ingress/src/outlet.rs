//! How a record becomes durable: Kafka acknowledges it, or it is fsynced in the spool.

use crate::metrics::IngressMetrics;
use crate::publish_breaker::{Place, PublishBreaker};
use crate::spooled::{self, Topic};
use postern_core::partition;
use postern_core::record::click::Click;
use postern_failpoint::failpoint;
use postern_kafka::{Delivery, Message, Placed, Producer, PublishError};
use postern_spool::{Spool, SpoolError};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Longest wait for a disk: whoever waits holds a place that others want.
pub(crate) const DISK_PATIENCE: Duration = Duration::from_secs(3);

/// Closed until the topics are known to keep what they acknowledge. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicI32>);

impl Gate {
    /// Lets records go to Kafka from here on, whose clicks and postbacks have so many partitions.
    pub fn open(&self, partitions: i32) {
        self.0.store(partitions.max(1), Ordering::Release);
    }

    /// The partitions of clicks and postbacks; `None` as long as it is closed.
    pub(crate) fn partitions(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Acquire)).filter(|count| *count > 0)
    }
}

/// A record on its way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) topic: Topic,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Goes with it also through the spool; what else stands in `headers` doesn't.
    pub(crate) request_id: Option<&'a str>,
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

/// Where a record is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Kafka acknowledged it.
    Placed(Placed),
    /// It is fsynced in the spool.
    Spooled,
}

/// A record isn't known to be durable anywhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    #[error("kafka doesn't acknowledge, and {0}")]
    Spool(#[from] SpoolError),
    #[error("kafka doesn't acknowledge, and there is no spool (spool.max_bytes is 0)")]
    NoSpool,
    #[error("kafka doesn't acknowledge, and the spool's disk doesn't answer in time")]
    Slow,
}

/// The way out. Clones share it.
#[derive(Clone)]
pub(crate) struct Outlet {
    pub(crate) producer: Producer,
    pub(crate) gate: Gate,
    pub(crate) breaker: PublishBreaker,
    pub(crate) spool: Option<Spool>,
    /// Something was spooled.
    pub(crate) spooled: Arc<Notify>,
    /// Records in the spool with numbers below this one may be clicks.
    clicks: Arc<AtomicU64>,
    /// Longest wait for an acknowledgement.
    patience: Duration,
    metrics: IngressMetrics,
}

/// A record that was handed to Kafka.
pub(crate) struct Sent<'a> {
    outlet: &'a Outlet,
    place: Place,
    delivery: Delivery,
    at: Instant,
    /// When Kafka had it.
    acknowledged: Option<Instant>,
    /// Nobody has been told yet what became of it.
    open: bool,
}

/// What a postback waits for while it waits for Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// Its verdict, which comes after the acknowledgement: nobody is woken for that alone.
    Verdict,
}

impl Outlet {
    pub(crate) fn new(
        producer: Producer,
        gate: Gate,
        spool: Option<Spool>,
        patience: Duration,
        metrics: IngressMetrics,
    ) -> Self {
        // What an earlier process left may be clicks.
        let left = spool.as_ref().map_or(0, Spool::mark);
        Self {
            breaker: PublishBreaker::new(metrics.publish_breaker_open.clone()),
            producer,
            gate,
            spool,
            spooled: Arc::default(),
            clicks: Arc::new(AtomicU64::new(left)),
            patience,
            metrics,
        }
    }

    /// Hands a record to Kafka; `None` where it can't be expected to acknowledge it.
    pub(crate) fn send(&self, record: &Record<'_>) -> Option<Sent<'_>> {
        failpoint!("ingress.unpublished", |_| None);
        let place = self.place(record.topic, record.key)?;
        let drained = self.spool.as_ref().is_some_and(|spool| !spool.is_empty());
        if !self.breaker.admits(place, drained) {
            return None;
        }
        let at = Instant::now();
        let published = self.producer.publish(&Message {
            topic: record.topic.name(),
            key: record.key,
            value: record.value,
            partition: None,
            headers: record.headers,
        });
        match published {
            Ok(delivery) => Some(Sent {
                outlet: self,
                place,
                delivery,
                at,
                acknowledged: None,
                open: true,
            }),
            Err(error) => {
                self.failed(place, &error);
                None
            }
        }
    }

    /// Where a record will stand; refusals, which nobody waits for together, count as one place.
    pub(crate) fn place(&self, topic: Topic, key: &[u8]) -> Option<Place> {
        let partitions = self.gate.partitions()?;
        Some(match topic {
            Topic::Rejects => (topic, 0),
            Topic::Clicks | Topic::Postbacks => (topic, partition::of(key, partitions)),
        })
    }

    /// Counts a record that wasn't acknowledged.
    pub(crate) fn failed(&self, place: Place, error: &PublishError) {
        let reason = match error {
            PublishError::QueueFull => "queue_full",
            PublishError::Undelivered(_) => "undelivered",
            PublishError::TooLarge => "too_large",
        };
        self.metrics
            .publish_failures
            .with_label_values(&[place.0.name(), reason])
            .inc();
        tracing::debug!(topic = place.0.name(), partition = place.1, %error, "not acknowledged");
        // A record that is too large says nothing about the broker.
        if !matches!(error, PublishError::TooLarge) {
            self.breaker.missed(place);
        }
    }

    /// Fsyncs a record in the spool, before `deadline` where there is one.
    async fn spool(&self, record: &Record<'_>, deadline: Option<Instant>) -> Result<(), NotKept> {
        let spool = self.spool.as_ref().ok_or(NotKept::NoSpool)?;
        let word = record.topic.word();
        let bytes = spooled::encode(record.topic, record.key, record.value, record.request_id);
        let bytes = bytes.ok_or(SpoolError::Failed("it is no text".to_owned()))?;
        let failed = |reason| {
            self.metrics
                .spool_failures
                .with_label_values(&[reason])
                .inc()
        };
        let patience = Instant::now() + DISK_PATIENCE;
        let until = deadline.map_or(patience, |deadline| patience.min(deadline));
        match tokio::time::timeout_at(until, spool.append(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                failed(reason(&error));
                return Err(error.into());
            }
            // It may be written all the same: nobody was told so.
            Err(_) => {
                failed("slow");
                return Err(NotKept::Slow);
            }
        }
        if record.topic == Topic::Clicks {
            self.clicks.fetch_max(spool.mark(), Ordering::AcqRel);
        }
        self.metrics.spool_appended.with_label_values(&[word]).inc();
        self.spooled.notify_one();
        Ok(())
    }

    /// Makes a record durable: in Kafka, else in the spool. Kafka has the outlet's patience, the
    /// spool until `deadline`.
    pub(crate) async fn keep(
        &self,
        record: &Record<'_>,
        deadline: Option<Instant>,
    ) -> Result<Kept, NotKept> {
        let mut sent = self.send(record);
        self.kept(&mut sent, Next::Nothing, record, deadline).await
    }

    /// The same of a record that was handed to Kafka, or not. With [`Next::Verdict`] it may tell of an
    /// acknowledgement only when its patience ends.
    pub(crate) async fn kept(
        &self,
        sent: &mut Option<Sent<'_>>,
        next: Next,
        record: &Record<'_>,
        deadline: Option<Instant>,
    ) -> Result<Kept, NotKept> {
        if let Some(sent) = sent
            && let Ok(placed) = sent.acknowledged(next).await
        {
            return Ok(Kept::Placed(placed));
        }
        Box::pin(self.spool(record, deadline))
            .await
            .map(|()| Kept::Spooled)
    }

    /// As [`Self::keep`], for records that can be done without: they leave half of the spool to
    /// those that can't.
    pub(crate) async fn keep_if_room(&self, record: &Record<'_>) -> Result<Kept, NotKept> {
        if let Some(mut sent) = self.send(record)
            && let Ok(placed) = sent.acknowledged(Next::Nothing).await
        {
            return Ok(Kept::Placed(placed));
        }
        match &self.spool {
            Some(spool) if spool.status().is_half_full => Err(SpoolError::Full.into()),
            _ => self.spool(record, None).await.map(|()| Kept::Spooled),
        }
    }

    pub(crate) async fn keep_click(&self, click: &Click) -> Result<Kept, NotKept> {
        let value = click.encode();
        let record = Record {
            topic: Topic::Clicks,
            key: click.clickid.as_str().as_bytes(),
            value: &value,
            request_id: None,
            headers: &[],
        };
        self.keep(&record, None).await
    }

    /// Whether clicks wait in the spool that Kafka doesn't have yet.
    pub(crate) fn holds_clicks(&self) -> bool {
        let clicks = self.clicks.load(Ordering::Acquire);
        let spool = self.spool.as_ref();
        spool.is_some_and(|spool| spool.holds_below(clicks))
    }
}

impl Sent<'_> {
    pub(crate) fn partition(&self) -> i32 {
        self.place.1
    }

    /// Whether nothing speaks against its acknowledgement.
    pub(crate) fn is_trusted(&self) -> bool {
        self.outlet.breaker.trusts(self.place)
    }

    /// When it was acknowledged, as far as that was asked for.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.acknowledged
    }

    /// Waits until it is acknowledged, or can't be expected to be any more: then it may or may not
    /// stand on its topic.
    pub(crate) async fn acknowledged(&mut self, next: Next) -> Result<Placed, PublishError> {
        failpoint!("ingress.unacknowledged", |why: &str| {
            Err(PublishError::Undelivered(why.to_owned()))
        });
        let until = self.at + self.outlet.patience;
        if next == Next::Verdict {
            // Ends early only where it failed.
            let _ = tokio::time::timeout_at(until, self.delivery.failed()).await;
        } else {
            let _ = tokio::time::timeout_at(until, self.delivery.settled()).await;
        }
        let told = self.told();
        self.open = false;
        let outcome =
            told.unwrap_or_else(|| Err(PublishError::Undelivered("not in time".to_owned())));
        if let Err(error) = &outcome {
            self.outlet.failed(self.place, error);
        }
        outcome
    }

    /// What Kafka said by now.
    pub(crate) fn told(&mut self) -> Option<Result<Placed, PublishError>> {
        let (outcome, at) = self.delivery.told()?;
        self.open = false;
        if outcome.is_ok() {
            let at = Instant::from_std(at);
            self.acknowledged = Some(at);
            self.outlet.breaker.acknowledged(self.place);
            if self.place.0 == Topic::Postbacks {
                let seconds = at.saturating_duration_since(self.at).as_secs_f64();
                self.outlet.metrics.publish_seconds.observe(seconds);
            }
        }
        Some(outcome)
    }
}

impl Drop for Sent<'_> {
    /// A caller who leaves doesn't take along what Kafka had said until then.
    fn drop(&mut self) {
        if self.open {
            let _ = self.told();
        }
    }
}

fn reason(error: &SpoolError) -> &'static str {
    match error {
        SpoolError::Full => "full",
        SpoolError::Busy => "busy",
        SpoolError::TooLarge(_) => "too_large",
        SpoolError::Failed(_) | SpoolError::InUse(_) | SpoolError::Directory { .. } => "disk",
    }
}
