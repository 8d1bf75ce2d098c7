//! The spool's way back to Kafka: in order, beside live traffic, and the one who finds out that
//! Kafka takes records again.
//!
//! A window of records at a time. Its clicks are acknowledged before its postbacks are sent, and
//! the next window follows when the verdicts of this one are in: so the spool empties as fast as
//! consumers decide, and what callers send meanwhile waits behind one window at most. After a
//! failure one record tries.

use crate::breaker::{Breaker, Wait};
use crate::metrics::IngressMetrics;
use crate::outlet::{Gate, Outlet};
use crate::pending::{Pending, Waiting};
use crate::publish_breaker::Place;
use crate::spooled::{Spooled, SpooledError, Topic};
use crate::verdicts::ReplyAddress;
use postern_core::ids::RequestId;
use postern_core::record::HEADER_REPLY_TO;
use postern_failpoint::failpoint;
use postern_kafka::{Delivery, Producer, PublishError};
use postern_spool::{Entry, Spool};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Records of a window at most: few against a consumer's batch.
const WINDOW: usize = 128;
/// Bytes of a window.
const WINDOW_BYTES: usize = 1024 * 1024;
/// After a window whose verdicts nobody awaits.
const UNHEARD: Duration = Duration::from_millis(50);
/// After a window that failed.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two looks where nobody says that there is something.
const LOOK: Duration = Duration::from_secs(1);

/// Empties the spool of an ingress.
pub struct Drain {
    pub(crate) outlet: Outlet,
    pub(crate) spool: Spool,
    /// Who hears verdicts, where they are waited for.
    pub(crate) answers: Option<Answers>,
    pub(crate) metrics: IngressMetrics,
    /// By then the client has given a record up, unless it is stuck.
    pub(crate) longest: Duration,
}

/// How verdicts of drained postbacks come back.
pub(crate) struct Answers {
    pub(crate) pending: Pending,
    pub(crate) reply: ReplyAddress,
    pub(crate) breaker: Breaker,
    pub(crate) timeout: Duration,
}

/// Why a window was not taken whole.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// Kafka doesn't acknowledge.
    #[error("a spooled record was not acknowledged: {0}")]
    Publish(#[from] PublishError),
    /// The spool can't be read.
    #[error("the spool can't be read: {0}")]
    Read(#[from] std::io::Error),
    /// What is in it can't be read.
    #[error("a spooled record can't be read: {0}")]
    Spooled(#[from] SpooledError),
    /// The topics aren't known to be as they must be.
    #[error("the topics have not been checked yet")]
    NotYet,
}

/// A postback whose verdict is awaited.
struct Asked<'a> {
    waiting: Waiting<'a>,
    wait: Wait,
}

impl Drain {
    /// For a spool that no ingress uses; the topics are known to be as they must be, and clicks
    /// and postbacks to have so many `partitions`.
    #[must_use]
    pub fn alone(
        producer: Producer,
        partitions: i32,
        spool: Spool,
        metrics: IngressMetrics,
    ) -> Self {
        let gate = Gate::default();
        gate.open(partitions);
        let patience = Duration::from_secs(60);
        Self {
            outlet: Outlet::new(
                producer,
                gate,
                Some(spool.clone()),
                patience,
                metrics.clone(),
            ),
            spool,
            answers: None,
            metrics,
            longest: Duration::from_secs(60),
        }
    }

    /// Drains until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut most = 1;
        while !stop.is_cancelled() {
            if self.spool.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.outlet.spooled.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
                continue;
            }
            let turned = tokio::select! {
                () = stop.cancelled() => return,
                turned = self.turn(most) => turned,
            };
            match turned {
                Ok(()) => most = (most * 2).min(WINDOW),
                Err(error) => {
                    most = 1;
                    tracing::debug!(%error, "the spool isn't drained now");
                    if !matches!(error, DrainError::Publish(_) | DrainError::NotYet) {
                        tracing::error!(%error, "the spool isn't drained until this is mended");
                    }
                    let pause = match error {
                        DrainError::Publish(_) | DrainError::NotYet => PAUSE,
                        _ => LOOK * 10,
                    };
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Drains until nothing is left.
    ///
    /// # Errors
    ///
    /// The first failure; what wasn't acknowledged stays.
    pub async fn until_empty(&self) -> Result<(), DrainError> {
        while !self.spool.is_empty() {
            self.turn(WINDOW).await?;
        }
        Ok(())
    }

    /// Takes up to `most` records out of the spool.
    async fn turn(&self, most: usize) -> Result<(), DrainError> {
        if self.outlet.gate.partitions().is_none() {
            return Err(DrainError::NotYet);
        }
        failpoint!("ingress.undrained", |_| Err(DrainError::NotYet));
        let spool = self.spool.clone();
        let read = move || spool.read(most, WINDOW_BYTES);
        let entries = tokio::task::spawn_blocking(read)
            .await
            .map_err(std::io::Error::other)??;
        let mut window = Window::default();
        for entry in &entries {
            match Spooled::decode(&entry.payload) {
                Ok(spooled) => window.add(spooled),
                Err(error @ SpooledError::Newer(_)) => return Err(error.into()),
                Err(error) => {
                    self.set_aside(entry, &error).await?;
                    window.pass();
                }
            }
        }
        // A click first: its postback must find it.
        let mut asked = Vec::new();
        let sent = self
            .send(&mut window, &entries, &[Topic::Clicks], &mut asked)
            .await;
        let sent = match sent {
            Ok(()) => {
                let others = [Topic::Postbacks, Topic::Rejects];
                self.send(&mut window, &entries, &others, &mut asked).await
            }
            failed => failed,
        };
        self.release(&entries, &window);
        sent?;
        if asked.is_empty() && self.answers.is_some() {
            // Nobody says how fast consumers are: slowly, then.
            tokio::time::sleep(UNHEARD).await;
        }
        self.hear(asked).await;
        Ok(())
    }

    /// Publishes the window's records of these topics and waits until Kafka has them.
    async fn send<'a>(
        &'a self,
        window: &mut Window,
        entries: &[Entry],
        topics: &[Topic],
        asked: &mut Vec<Asked<'a>>,
    ) -> Result<(), DrainError> {
        let mut sending = Vec::new();
        for (index, spooled) in window.records.iter().enumerate() {
            if let Some(spooled) = spooled
                && topics.contains(&spooled.topic())
            {
                sending.push((index, self.publish(spooled)));
            }
        }
        let mut failure = None;
        for (index, sending) in sending {
            let outcome = match sending {
                Ok(sending) => self.settle(sending, asked).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(_) => window.acknowledged[index] = true,
                Err(error @ PublishError::TooLarge) => {
                    self.set_aside(&entries[index], &error).await?;
                    window.acknowledged[index] = true;
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    fn publish(&self, spooled: &Spooled) -> Result<Sending<'_>, PublishError> {
        let key = spooled.key().as_bytes();
        let place = self
            .outlet
            .place(spooled.topic(), key)
            .ok_or_else(|| PublishError::Undelivered("the topics aren't known".to_owned()))?;
        // Before it is published: the verdict may be faster than the acknowledgement.
        let waiting = self.answers.as_ref().and_then(|answers| {
            let id = RequestId::parse(spooled.request_id()?).ok()?;
            Some((answers, answers.pending.register(id)))
        });
        let reply = waiting.as_ref().map(|(answers, _)| {
            let header = answers.reply.header(answers.pending.instance());
            (HEADER_REPLY_TO, header)
        });
        let delivery = spooled.message(reply.as_ref(), |message| {
            self.outlet.producer.publish(message)
        });
        match delivery {
            Ok(delivery) => Ok(Sending {
                place,
                delivery,
                waiting: waiting.map(|(_, waiting)| waiting),
            }),
            Err(error) => {
                self.outlet.failed(place, &error);
                Err(error)
            }
        }
    }

    async fn settle<'a>(
        &self,
        sending: Sending<'a>,
        asked: &mut Vec<Asked<'a>>,
    ) -> Result<(), PublishError> {
        let delivery = tokio::time::timeout(self.longest, sending.delivery)
            .await
            .unwrap_or_else(|_| Err(PublishError::Undelivered("never told".to_owned())));
        match delivery {
            Ok(placed) => {
                self.outlet.breaker.acknowledged(sending.place);
                if let (Some(waiting), Some(answers)) = (sending.waiting, &self.answers)
                    && let Some(wait) = answers.breaker.admit(placed.partition, Instant::now())
                {
                    asked.push(Asked { waiting, wait });
                }
                Ok(())
            }
            Err(error) => {
                self.outlet.failed(sending.place, &error);
                Err(error)
            }
        }
    }

    /// Lets go of what Kafka has, up to the first record that it hasn't.
    fn release(&self, entries: &[Entry], window: &Window) {
        let taken = window.acknowledged.iter().take_while(|taken| **taken);
        let count = taken.count();
        self.spool.release(&entries[..count]);
        for spooled in window.records[..count].iter().flatten() {
            self.metrics
                .spool_drained
                .with_label_values(&[spooled.topic().word()])
                .inc();
        }
    }

    /// Waits for the verdicts of what was sent, as far as verdicts come.
    async fn hear(&self, asked: Vec<Asked<'_>>) {
        let Some(answers) = &self.answers else {
            return;
        };
        let deadline = Instant::now() + answers.timeout;
        for Asked { mut waiting, wait } in asked {
            tokio::select! {
                biased;
                _ = waiting.outcome() => wait.verdict(),
                () = tokio::time::sleep_until(deadline) => wait.missed(),
            }
        }
    }

    /// Keeps a record apart that can't be drained, so that it doesn't hold up the others.
    async fn set_aside(&self, entry: &Entry, why: &impl std::fmt::Display) -> std::io::Result<()> {
        let (spool, entry) = (self.spool.clone(), entry.clone());
        let kept = tokio::task::spawn_blocking(move || spool.set_aside(&entry))
            .await
            .map_err(std::io::Error::other)??;
        self.metrics.spool_records_set_aside.inc();
        tracing::error!(
            %why,
            kept = %kept.display(),
            "a spooled record can't be drained and was set aside: it was acknowledged, and is not \
             in Kafka; when the reason is mended, postern spool drain takes it"
        );
        Ok(())
    }
}

/// What was read, and what Kafka has of it.
#[derive(Default)]
struct Window {
    /// `None` where it was set aside.
    records: Vec<Option<Spooled>>,
    acknowledged: Vec<bool>,
}

impl Window {
    fn add(&mut self, spooled: Spooled) {
        self.records.push(Some(spooled));
        self.acknowledged.push(false);
    }

    fn pass(&mut self) {
        self.records.push(None);
        self.acknowledged.push(true);
    }
}

/// A record on its way to Kafka.
struct Sending<'a> {
    place: Place,
    delivery: Delivery,
    waiting: Option<Waiting<'a>>,
}
