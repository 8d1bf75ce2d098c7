//! Campaigns on their way to the ingresses: whatever version isn't published yet is swept up.

use async_trait::async_trait;
use postern_core::campaign::Campaign;
use postern_core::record::campaign::CampaignRecord;
use postern_kafka::{CAMPAIGNS, Connection, KafkaError, Message, Producer, ProducerOptions};
use postern_runtime::metrics::{Metrics, MetricsError};
use postern_runtime::telemetry::chain;
use postern_store::{CampaignSink, Store, StoreError};
use prometheus::IntCounter;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(1);
/// The rows are locked for so long at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sweeps campaigns onto their topic. Any number of them may run: each row has one at a time.
pub struct Publisher {
    store: Arc<dyn Store>,
    sink: Arc<Sink>,
    changed: Arc<Notify>,
    failures: IntCounter,
}

struct Sink {
    producer: Producer,
    published: IntCounter,
}

impl Publisher {
    /// Makes a publisher with a producer of its own, which gives a record up before the row's
    /// lock is let go of. `changed` wakes it before its time.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`], or a metric that is there already.
    pub fn new(
        connection: &Connection,
        store: Arc<dyn Store>,
        changed: Arc<Notify>,
        metrics: &Metrics,
    ) -> Result<Self, PublisherError> {
        let producer = Producer::new(
            connection,
            &ProducerOptions {
                name: "campaigns".to_owned(),
                delivery_timeout: PATIENCE,
                queue_messages: 1_000,
                linger: ProducerOptions::PROMPT,
            },
        )?;
        Ok(Self {
            store,
            sink: Arc::new(Sink {
                producer,
                published: metrics.counter(
                    "campaigns_published_total",
                    "Versions of campaigns that Kafka acknowledged on postern.campaigns.",
                )?,
            }),
            changed,
            failures: metrics.counter(
                "campaign_sweeps_failed_total",
                "Sweeps that could not publish campaigns: ingresses redirect by older settings.",
            )?,
        })
    }

    /// What it publishes with; it can fail for good.
    #[must_use]
    pub fn producer(&self) -> Producer {
        self.sink.producer.clone()
    }

    /// Sweeps until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let swept = tokio::select! {
                () = stop.cancelled() => return,
                swept = self.sweep() => swept,
            };
            match swept {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("campaigns are published again");
                }
                Ok(()) => {}
                Err(error) => {
                    self.failures.inc();
                    if !std::mem::replace(&mut failing, true) {
                        let why = chain(&error);
                        tracing::warn!(why, "campaigns were not published; trying every second");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        while self.store.publish_campaigns(self.sink.clone()).await? > 0 {}
        Ok(())
    }
}

/// Why there is no publisher.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    /// The producer.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

#[async_trait]
impl CampaignSink for Sink {
    async fn publish(&self, campaigns: &[Campaign]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut deliveries = Vec::with_capacity(campaigns.len());
        for campaign in campaigns {
            let key = campaign.campaign_id.to_string();
            let value = CampaignRecord::from(campaign).encode();
            let message = Message::keyed(CAMPAIGNS, key.as_bytes(), &value);
            deliveries.push(self.producer.publish(&message)?);
        }
        for delivery in deliveries {
            delivery.await?;
            self.published.inc();
        }
        Ok(())
    }
}
