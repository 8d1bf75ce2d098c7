//! How verdicts come back: the partition of the verdicts topic that this ingress reads.

use crate::metrics::IngressMetrics;
use crate::pending::Pending;
use postern_core::partition;
use postern_core::record::postback::ReplyTo;
use postern_core::record::verdict::VerdictBatch;
use postern_kafka::{Connection, KafkaError, Tail, VERDICTS};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where the consumer sends this ingress' verdicts. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ReplyAddress(Arc<AtomicI32>);

impl ReplyAddress {
    pub(crate) fn partition(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn header(&self, instance: &str) -> String {
        ReplyTo {
            partition: self.partition(),
            instance: instance.to_owned(),
        }
        .to_string()
    }
}

/// Reads verdicts from Kafka for one ingress. Blocks: give it a thread.
pub struct VerdictReader {
    tail: Tail,
    pending: Pending,
    reply: ReplyAddress,
    metrics: IngressMetrics,
}

impl VerdictReader {
    /// Makes the reader.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`].
    pub fn new(
        connection: &Connection,
        pending: Pending,
        reply: ReplyAddress,
        metrics: IngressMetrics,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            tail: Tail::latest(connection, "verdicts", VERDICTS)?,
            pending,
            reply,
            metrics,
        })
    }

    /// Finds its partition, calls `ready` once it reads from the partition's end, and reads
    /// until `stop`. Kafka being away, or the topic, is retried; `waiting` hears why.
    pub fn run(
        mut self,
        stop: &CancellationToken,
        mut waiting: impl FnMut(&KafkaError),
        mut ready: impl FnMut(),
    ) {
        while patiently(stop, &mut waiting, |patience| self.start(patience)).is_some() {
            ready();
            let Err(gone) = self.read(stop) else {
                return;
            };
            // Deleted, and perhaps made anew: with other partitions, or other positions.
            waiting(&gone);
            if let Err(error) = self.tail.renew() {
                waiting(&error);
            }
        }
    }

    /// Reads until `stop`, or until there is nothing to read from.
    fn read(&mut self, stop: &CancellationToken) -> Result<(), KafkaError> {
        while !stop.is_cancelled() {
            match self.tail.next(Duration::from_millis(100)) {
                Ok(None) => {}
                Ok(Some(record)) => self.take(&record.value),
                Err(gone @ KafkaError::Topics(_)) => return Err(gone),
                Err(error) => tracing::debug!(%error, "reading verdicts"),
            }
        }
        Ok(())
    }

    fn start(&mut self, patience: Duration) -> Result<(), KafkaError> {
        let count = self.tail.partitions(patience)?;
        let partition = partition::of(self.pending.instance().as_bytes(), count);
        self.tail.start(partition, patience)?;
        self.reply.0.store(partition, Ordering::Relaxed);
        Ok(())
    }

    fn take(&self, value: &[u8]) {
        match VerdictBatch::decode(value) {
            // Instances share partitions.
            Ok(batch) if batch.instance == self.pending.instance() => {
                let late = self.pending.resolve(batch.verdicts);
                self.metrics
                    .verdicts_late
                    .inc_by(u64::try_from(late).unwrap_or(0));
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a verdict record can't be read"),
        }
    }
}

/// Tries until it works, with a bound for each attempt; `waiting` hears of those that didn't.
/// `None` where the process stops. Blocks the thread.
pub(crate) fn patiently<T>(
    stop: &CancellationToken,
    mut waiting: impl FnMut(&KafkaError),
    mut attempt: impl FnMut(Duration) -> Result<T, KafkaError>,
) -> Option<T> {
    loop {
        match attempt(Duration::from_secs(5)) {
            Ok(value) => return Some(value),
            Err(_) if stop.is_cancelled() => return None,
            Err(error) => waiting(&error),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
