//! What leaves a consumer: rejects, verdicts, conversion events.

use crate::Dropped;
use crate::metrics::ConsumerMetrics;
use postern_core::ids::RequestId;
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::ReplyTo;
use postern_core::record::reject::Reject;
use postern_core::record::verdict::{Verdict, VerdictBatch};
use postern_failpoint::failpoint;
use postern_kafka::{CONVERSIONS, Delivery, Message, Producer, PublishError, REJECTS, VERDICTS};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Keeps a record of verdicts well below Kafka's 1 MB.
const VERDICTS_PER_RECORD: usize = 2000;

/// An ingress in the same process, which takes its verdicts without a topic between.
pub trait LocalVerdicts: Send + Sync {
    /// The ingress instance.
    fn instance(&self) -> &str;
    /// Hands verdicts over.
    fn deliver(&self, verdicts: Vec<Verdict>);
}

/// What the consumer says to the outside.
#[derive(Clone)]
pub(crate) struct Emitter {
    producer: Producer,
    /// Of conversion events.
    events: Producer,
    local: Option<Arc<dyn LocalVerdicts>>,
    metrics: ConsumerMetrics,
}

impl Emitter {
    pub(crate) fn new(
        producer: Producer,
        events: Producer,
        local: Option<Arc<dyn LocalVerdicts>>,
        metrics: ConsumerMetrics,
    ) -> Self {
        Self {
            producer,
            events,
            local,
            metrics,
        }
    }

    /// Publishes rejects and waits until all are acknowledged: only then may a position move
    /// past what they hold.
    pub(crate) async fn rejects(&self, rejects: &[Reject]) -> Result<(), Dropped> {
        let mut deliveries = Vec::with_capacity(rejects.len());
        for reject in rejects {
            let key = reject.request_id.to_string();
            let value = reject.encode();
            deliveries.push(self.producer.publish(&Message::keyed(
                REJECTS,
                key.as_bytes(),
                &value,
            ))?);
        }
        for delivery in deliveries {
            delivery.await?;
        }
        for reject in rejects {
            tracing::warn!(
                request_id = %reject.request_id,
                reason = reject.reason,
                message = reject.message,
                "a record went to postern.rejects"
            );
            self.metrics
                .rejects
                .with_label_values(&[&reject.reason])
                .inc();
        }
        Ok(())
    }

    /// Sends verdicts, one record per ingress instance. Not waited for: a verdict that is lost
    /// leaves its caller with `queued`, and the status endpoint tells.
    pub(crate) fn verdicts(
        &self,
        verdicts: Vec<Verdict>,
        replies: &mut HashMap<RequestId, ReplyTo>,
    ) {
        let mut instances: BTreeMap<ReplyTo, Vec<Verdict>> = BTreeMap::new();
        for verdict in verdicts {
            if let Some(reply) = replies.remove(&verdict.request_id) {
                instances.entry(reply).or_default().push(verdict);
            }
        }
        for (reply, verdicts) in instances {
            if let Some(local) = &self.local
                && local.instance() == reply.instance
            {
                local.deliver(verdicts);
                continue;
            }
            for verdicts in verdicts.chunks(VERDICTS_PER_RECORD) {
                self.send(&reply, verdicts);
            }
        }
    }

    fn send(&self, reply: &ReplyTo, verdicts: &[Verdict]) {
        let batch = VerdictBatch::new(reply.instance.clone(), verdicts.to_vec());
        let sent = self.producer.publish(&Message {
            topic: VERDICTS,
            key: batch.instance.as_bytes(),
            value: &batch.encode(),
            partition: Some(reply.partition),
            headers: &[],
        });
        if let Err(error) = sent {
            let count = u64::try_from(verdicts.len()).unwrap_or(0);
            self.metrics.verdicts_lost.inc_by(count);
            tracing::warn!(%error, count, "verdicts were not sent");
        }
    }

    /// Hands a conversion event over.
    pub(crate) fn event(&self, conversion: &Conversion) -> Result<Delivery, PublishError> {
        if is_refused(conversion) {
            return Err(PublishError::Undelivered("failpoint".to_owned()));
        }
        self.events.publish(&Message::keyed(
            CONVERSIONS,
            conversion.clickid.as_str().as_bytes(),
            &conversion.encode(),
        ))
    }

    pub(crate) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Waits until all is acknowledged or given up; gives how many records are still on their way.
    pub(crate) fn flush(&self, timeout: Duration) -> i32 {
        self.producer.flush(timeout) + self.events.flush(timeout)
    }
}

/// Where tests have the events of a clickid refused.
fn is_refused(_conversion: &Conversion) -> bool {
    failpoint!("consumer.event", |only: &str| only
        == _conversion.clickid.as_str());
    false
}

/// Conversion events on their way, per partition in the order of their numbers.
#[derive(Default)]
pub(crate) struct EventsInFlight(BTreeMap<i32, VecDeque<Event>>);

type Event = (i64, Result<Delivery, PublishError>);

/// What became of events.
#[derive(Default)]
pub(crate) struct Settled {
    /// Per partition the number up to which every event is acknowledged.
    pub(crate) reached: BTreeMap<i32, i64>,
    /// Partitions of which one was not.
    pub(crate) failed: BTreeSet<i32>,
}

impl EventsInFlight {
    pub(crate) fn push(
        &mut self,
        partition: i32,
        sequence: i64,
        delivery: Result<Delivery, PublishError>,
    ) {
        let events = self.0.entry(partition).or_default();
        events.push_back((sequence, delivery));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }

    /// What is known by now.
    pub(crate) fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        for (partition, events) in &mut self.0 {
            while let Some((sequence, delivery)) = events.front_mut() {
                let told = match delivery {
                    Ok(delivery) => delivery.told().map(|(told, _)| told),
                    Err(error) => Some(Err(error.clone())),
                };
                let Some(told) = told else {
                    break;
                };
                let sequence = *sequence;
                events.pop_front();
                settled.hear(*partition, sequence, told.map(drop), events);
            }
        }
        self.0.retain(|_, events| !events.is_empty());
        settled
    }

    /// Waits for those of a partition, or of all.
    pub(crate) async fn wait(&mut self, only: Option<i32>) -> Settled {
        let mut settled = Settled::default();
        for (partition, events) in &mut self.0 {
            if only.is_some_and(|only| only != *partition) {
                continue;
            }
            while let Some((sequence, delivery)) = events.pop_front() {
                let told = match delivery {
                    Ok(delivery) => delivery.await.map(drop),
                    Err(error) => Err(error),
                };
                settled.hear(*partition, sequence, told, events);
            }
        }
        self.0.retain(|_, events| !events.is_empty());
        settled
    }
}

impl Settled {
    /// Those behind an event that failed are of no interest: all of them are sent again.
    fn hear(
        &mut self,
        partition: i32,
        sequence: i64,
        told: Result<(), PublishError>,
        behind: &mut VecDeque<Event>,
    ) {
        match told {
            Ok(()) => {
                self.reached.insert(partition, sequence);
            }
            Err(error) => {
                tracing::warn!(partition, %error, "a conversion event was not acknowledged; it will be sent again");
                self.failed.insert(partition);
                behind.clear();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use postern_kafka::Placed;

    const PLACED: Placed = Placed {
        partition: 0,
        offset: 0,
    };

    #[test]
    fn nothing_counts_as_published_before_all_before_it_are_acknowledged() {
        let mut events = EventsInFlight::default();
        let [first, second, third, fourth] = [1, 2, 3, 4].map(|sequence| {
            let (settle, delivery) = Delivery::channel();
            events.push(7, sequence, Ok(delivery));
            settle
        });
        second.settle(Ok(PLACED));
        assert!(events.settle().reached.is_empty());
        first.settle(Ok(PLACED));
        assert_eq!(events.settle().reached, BTreeMap::from([(7, 2)]));
        third.settle(Err(PublishError::Undelivered(String::new())));
        fourth.settle(Ok(PLACED));
        let settled = events.settle();
        assert!(settled.reached.is_empty() && settled.failed.contains(&7));
        assert_eq!(events.len(), 0);
    }
}
