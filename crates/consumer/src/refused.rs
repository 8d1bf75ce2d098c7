//! Refused postbacks on their way from the rejects topic into the log.

use crate::Dropped;
use crate::config::ConsumerConfig;
use crate::metrics::ConsumerMetrics;
use crate::worker::Status;
use postern_core::record::reject::Reject;
use postern_kafka::{
    Connection, Event, Group, GroupOptions, KafkaError, Position, REJECTS, Record,
};
use postern_runtime::telemetry::chain;
use postern_store::{RefusedPostback, RejectsAdvance, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

const GROUP: &str = "postern-refused";
const BATCH: usize = 500;
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the rejects topic and logs what the ingress refused. A member of a group of its own.
pub struct RefusedLogger {
    group: Group,
    store: Arc<dyn Store>,
    metrics: ConsumerMetrics,
    handle: Handle,
    status: Status,
    assigned: Vec<i32>,
    /// Position per partition: as the store has it, and as it will be.
    positions: BTreeMap<i32, Place>,
    stale: bool,
}

#[derive(Copy, Clone)]
struct Place {
    stored: Option<i64>,
    next: i64,
}

impl RefusedLogger {
    /// Joins the group; `alone` are all partitions of the topic where no group is asked.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`].
    pub fn new(
        config: &ConsumerConfig,
        alone: Option<Vec<i32>>,
        connection: &Connection,
        store: Arc<dyn Store>,
        metrics: ConsumerMetrics,
        status: Status,
        handle: Handle,
    ) -> Result<Self, KafkaError> {
        let group = Group::join(
            connection,
            &GroupOptions {
                name: format!("refused-{}", config.name),
                part: "refused".to_owned(),
                group: GROUP.to_owned(),
                topics: vec![REJECTS],
                session_timeout: config.session_timeout,
                patient: true,
                alone,
            },
        )?;
        Ok(Self {
            group,
            store,
            metrics,
            handle,
            status,
            assigned: Vec::new(),
            positions: BTreeMap::new(),
            stale: false,
        })
    }

    /// Logs until `stop`. Blocks: give it a thread.
    ///
    /// # Errors
    ///
    /// Kafka's client failed for good.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), KafkaError> {
        while !stop.is_cancelled() {
            let done = if self.stale {
                self.start()
            } else {
                self.turn()
            };
            match done {
                Ok(()) => (self.status)(Ok(())),
                Err(Dropped::Kafka(KafkaError::Fatal(why))) => return Err(KafkaError::Fatal(why)),
                Err(dropped) => {
                    let why = chain(&dropped);
                    tracing::warn!(why, "refused postbacks were not logged yet");
                    (self.status)(Err(&why));
                    self.stale = true;
                    // Hears of rebalances while it waits.
                    if self.group.start(&[]).is_err() {
                        std::thread::sleep(PAUSE);
                    } else if let Ok(event) = self.group.poll(PAUSE) {
                        self.rebalance(event);
                    }
                }
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Dropped> {
        self.positions.clear();
        let mut start = Vec::new();
        for partition in &self.assigned {
            let stored = self
                .handle
                .block_on(self.store.rejects_position(*partition))?;
            let (first, end) = self.group.watermarks(REJECTS, *partition, PATIENCE)?;
            let next = stored.unwrap_or(first).clamp(first, end);
            if stored.is_some_and(|stored| stored != next) {
                tracing::error!(
                    partition,
                    ?stored,
                    first,
                    end,
                    "the position lies outside the rejects topic: some refused postbacks are \
                     missing in the log"
                );
            }
            self.positions.insert(*partition, Place { stored, next });
            start.push(Position {
                topic: REJECTS,
                partition: *partition,
                offset: next,
            });
        }
        self.group.start(&start)?;
        self.stale = false;
        Ok(())
    }

    fn rebalance(&mut self, event: Event) {
        match event {
            Event::Assigned(assigned) => {
                self.assigned = assigned
                    .into_iter()
                    .map(|(_, partition)| partition)
                    .collect();
                self.stale = true;
            }
            Event::Revoked => {
                self.assigned.clear();
                self.positions.clear();
                self.stale = false;
            }
            Event::Record(_) | Event::Idle => {}
        }
    }

    fn turn(&mut self) -> Result<(), Dropped> {
        let mut records: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        let mut count = 0;
        while count < BATCH {
            let wait = if count == 0 { 200 } else { 0 };
            match self.group.poll(Duration::from_millis(wait)) {
                Ok(Event::Record(record)) => {
                    records.entry(record.partition).or_default().push(record);
                    count += 1;
                }
                Ok(Event::Idle) => break,
                Ok(event) => {
                    self.rebalance(event);
                    return Ok(());
                }
                Err(KafkaError::Unavailable(why)) => {
                    tracing::debug!(why, "polling");
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        for (partition, records) in records {
            self.write(partition, &records)?;
        }
        Ok(())
    }

    fn write(&mut self, partition: i32, records: &[Record]) -> Result<(), Dropped> {
        let (Some(place), Some(last)) = (self.positions.get(&partition).copied(), records.last())
        else {
            return Ok(());
        };
        let refused: Vec<RefusedPostback> = records
            .iter()
            .filter(|record| record.offset >= place.next)
            .filter_map(read)
            .collect();
        let advance = RejectsAdvance {
            partition,
            expected: place.stored,
            next: last.offset + 1,
        };
        let commit = |refused: &[RefusedPostback]| {
            self.handle
                .block_on(self.store.commit_rejects(&advance, refused))
        };
        match commit(&refused) {
            Err(StoreError::Refused(error)) => {
                // They stay on the topic; the log can't hold one of them.
                let why = chain(error.as_ref());
                tracing::error!(why, partition, count = refused.len(), "not logged");
                commit(&[])?;
            }
            done => done?,
        }
        self.metrics
            .refused_logged
            .inc_by(u64::try_from(refused.len()).unwrap_or(0));
        self.positions.insert(
            partition,
            Place {
                stored: Some(advance.next),
                next: advance.next,
            },
        );
        self.group.report(&[Position {
            topic: REJECTS,
            partition,
            offset: advance.next,
        }]);
        Ok(())
    }
}

/// The refused postback in a record; the rejects of records are not in the log, which is kept
/// by request id.
fn read(record: &Record) -> Option<RefusedPostback> {
    match Reject::decode(&record.value) {
        Ok(reject) => reject.request.map(|origin| RefusedPostback {
            request_id: reject.request_id,
            received_at: reject.received_at,
            reason: reject.reason,
            message: reject.message,
            origin,
        }),
        Err(error) => {
            tracing::error!(
                partition = record.partition,
                offset = record.offset,
                %error,
                "a record of the rejects topic can't be read; it stays there"
            );
            None
        }
    }
}
