//! `postern consumer`.

use crate::config::Settings;
use crate::roles::ingress::instance;
use crate::roles::reports::publish_campaigns;
use crate::startup::{App, PATIENCE, prepare_store, prepare_topics, retry, topic_admin};
use crate::store_metrics;
use anyhow::Context as _;
use postern_consumer::{
    ConsumerConfig, ConsumerMetrics, Expiry, LocalVerdicts, Parts, RefusedLogger, Status, Worker,
};
use postern_kafka::{
    CLICKS, CONVERSIONS, Connection, KafkaError, Producer, ProducerOptions, REJECTS, TopicAdmin,
    VERDICTS,
};
use postern_runtime::admin::Check;
use postern_runtime::lifecycle::{Lifecycle, Stage};
use postern_runtime::telemetry::chain;
use postern_store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Runs the role until the process is told to stop.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let app = App::start(settings, "consumer", false).await?;
    let connection = app.connection()?;
    let topics = topic_admin(&connection)?;
    let store = open_measured_store(&app)?;
    app.watch_kafka(topics.clone(), app.health.check("kafka"));
    app.watch_store(store.clone());
    publish_campaigns(&app, &connection, store.clone())?;
    start(&app, &connection, topics, store, None)?;
    app.finish().await
}

/// The configured store; not contacted yet.
pub fn open_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    postern_store::open(settings.store.url.expose(), settings.store.options).context("store.url")
}

/// The same, its calls measured.
pub fn open_measured_store(app: &App) -> anyhow::Result<Arc<dyn Store>> {
    let observer = store_metrics::observer(&app.metrics)?;
    let store = &app.settings.store;
    postern_store::open_observed(store.url.expose(), store.options, Some(observer))
        .context("store.url")
}

/// Starts the workers as soon as topics and store are as they must be.
pub fn start(
    app: &App,
    connection: &Connection,
    topics: Arc<TopicAdmin>,
    store: Arc<dyn Store>,
    local: Option<Arc<dyn LocalVerdicts>>,
) -> anyhow::Result<()> {
    let producer = Producer::new(
        connection,
        &ProducerOptions {
            name: "consumer".to_owned(),
            // Verdicts are of no use later; rejects are tried again.
            delivery_timeout: Duration::from_secs(10),
            queue_messages: 100_000,
            // A batch sends one record of verdicts, or a barrier to each partition.
            linger: Duration::ZERO,
        },
    )?;
    app.tend("consumer", producer.clone())?;
    let events = Producer::new(
        connection,
        &ProducerOptions {
            name: "events".to_owned(),
            // They are tried again.
            delivery_timeout: Duration::from_secs(10),
            queue_messages: 100_000,
            linger: ProducerOptions::PATIENT,
        },
    )?;
    app.tend("events", events.clone())?;
    let worker_checks = (0..app.settings.consumer.workers)
        .map(|number| app.health.check(&format!("worker {number}")))
        .collect();
    // An ingress beside us: this is standalone.
    let alone = local.is_some();
    let starter = Starter {
        topics: topics.clone(),
        worker_checks,
        connection: connection.clone(),
        producer,
        events,
        store,
        local,
        metrics: ConsumerMetrics::new(&app.metrics)?,
        config: ConsumerConfig {
            name: instance(),
            partitions: 0,
            workers: app.settings.consumer.workers,
            alone,
            max_batch: app.settings.consumer.max_batch,
            session_timeout: app.settings.consumer.session_timeout,
            limits: app.settings.consumer.limits,
            retention: app.settings.consumer.retention,
        },
    };
    let check = app.health.check("consumer");
    let refused_check = app.health.check("refused");
    let kafka = app.settings.kafka.clone();
    let lifecycle = app.lifecycle.clone();
    app.lifecycle
        .spawn(Stage::Workers, "consumer start", |stop| async move {
            let attempt = || async {
                let partitions = prepare_topics(&kafka, &topics).await?;
                warm(&starter.producer, &[CLICKS, VERDICTS, REJECTS])?;
                warm(&starter.events, &[CONVERSIONS])?;
                Ok::<_, KafkaError>(partitions)
            };
            let prepared = retry(&stop, &check, "the topics can't be used", attempt).await;
            let Some(partitions) = prepared else {
                return Ok(());
            };
            let attempt = || prepare_store(starter.store.as_ref(), &topics, partitions);
            let prepared = retry(&stop, &check, "the store can't be used", attempt).await;
            if prepared.is_none() {
                return Ok(());
            }
            starter.start(&lifecycle, partitions, &check, &refused_check)?;
            stop.cancelled().await;
            Ok(())
        });
    Ok(())
}

/// Lets the producer find its topics before the first batch has something to say.
fn warm(producer: &Producer, topics: &[&str]) -> Result<(), KafkaError> {
    tokio::task::block_in_place(|| producer.warm(topics, PATIENCE))
}

struct Starter {
    topics: Arc<TopicAdmin>,
    worker_checks: Vec<Check>,
    connection: Connection,
    producer: Producer,
    events: Producer,
    store: Arc<dyn Store>,
    local: Option<Arc<dyn LocalVerdicts>>,
    metrics: ConsumerMetrics,
    config: ConsumerConfig,
}

impl Starter {
    fn start(
        self,
        lifecycle: &Lifecycle,
        partitions: i32,
        check: &Check,
        refused_check: &Check,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for (number, worker_check) in self.worker_checks.iter().enumerate() {
            let config = ConsumerConfig {
                partitions,
                ..self.config.clone()
            };
            let parts = Parts {
                connection: self.connection.clone(),
                topics: self.topics.clone(),
                producer: self.producer.clone(),
                events: self.events.clone(),
                local: self.local.clone(),
                store: self.store.clone(),
                metrics: self.metrics.clone(),
                status: status(worker_check),
            };
            // Ready before anything is assigned: a member more than there are partitions is a
            // spare, and as ready as the others.
            worker_check.ok();
            lifecycle.spawn_thread(Stage::Workers, &format!("worker {number}"), move |stop| {
                let worker = Worker::new(config, number, parts)?;
                worker.run(&stop).map_err(|error| chain(&error).into())
            })?;
        }
        check.ok();
        let rejects = if self.config.alone {
            let count = tokio::task::block_in_place(|| self.topics.partitions(REJECTS))?;
            Some((0..count).collect())
        } else {
            None
        };
        let expiry = Expiry::new(
            self.store.clone(),
            self.config.retention,
            self.metrics.clone(),
        );
        lifecycle.spawn(Stage::Workers, "retention", |stop| async move {
            expiry.run(stop).await;
            Ok(())
        });
        let logger = RefusedLogger::new(
            &self.config,
            rejects,
            &self.connection,
            self.store,
            self.metrics,
            status(refused_check),
            Handle::current(),
        )?;
        refused_check.ok();
        lifecycle.spawn_thread(Stage::Workers, "refused", move |stop| {
            logger.run(&stop).map_err(|error| chain(&error).into())
        })?;
        Ok(())
    }
}

fn status(check: &Check) -> Status {
    let check = check.clone();
    Box::new(move |state| match state {
        Ok(()) => check.ok(),
        Err(why) => check.failed(why),
    })
}
