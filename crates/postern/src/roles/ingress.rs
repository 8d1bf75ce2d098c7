//! `postern ingress`.

use crate::config::Settings;
use crate::startup::{App, PATIENCE, prepare_topics, retry, topic_admin};
use postern_ingress::{
    CampaignReader, Campaigns, Gate, Ingress, IngressMetrics, Pending, ReplyAddress, VerdictReader,
};
use postern_kafka::{
    CLICKS, Connection, KafkaError, POSTBACKS, Producer, ProducerOptions, REJECTS, TopicAdmin,
};
use postern_runtime::lifecycle::Stage;
use std::sync::Arc;
use std::time::Duration;

/// Runs the role until the process is told to stop.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let app = App::start(settings, true).await?;
    let connection = app.settings.kafka.connection()?;
    let topics = topic_admin(&connection)?;
    app.watch_kafka(topics.clone());
    let gate = Gate::default();
    let metrics = IngressMetrics::new(&app.metrics)?;
    let pending = Pending::new(&instance());
    let reply = ReplyAddress::default();
    read_verdicts(&app, &connection, &pending, &reply, &metrics)?;
    let (ingress, producer) = build(&app, &connection, pending, reply, gate.clone(), metrics)?;
    keep_topics(&app, topics, producer.clone(), gate);
    app.serve("ingress", ingress, move || flush(&producer))
        .await?;
    app.finish().await
}

/// A name that no other process has: verdicts for an earlier one must not be taken for ours.
pub fn instance() -> String {
    let mut bytes = [0; 8];
    // Without random bytes the process id still tells processes of one host apart.
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..4].copy_from_slice(&std::process::id().to_be_bytes());
    }
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// The ingress and its producer, reading campaigns already.
pub fn build(
    app: &App,
    connection: &Connection,
    pending: Pending,
    reply: ReplyAddress,
    gate: Gate,
    metrics: IngressMetrics,
) -> anyhow::Result<(Ingress, Producer)> {
    let config = app.settings.ingress.clone();
    let producer = Producer::new(
        connection,
        &ProducerOptions {
            name: "ingress".to_owned(),
            // Below the answer's own deadline, so that an answer knows what became of its record.
            delivery_timeout: config.answer_timeout * 3 / 4,
            queue_messages: 100_000,
        },
    )?;
    app.watch_producer("ingress producer", producer.clone());
    let campaigns = Campaigns::default();
    read_campaigns(app, connection, &campaigns, &metrics)?;
    let ingress = Ingress::new(
        config,
        producer.clone(),
        pending,
        reply,
        gate,
        campaigns,
        metrics,
    );
    Ok((ingress, producer))
}

/// Lets the producer find its topics before the first postback comes.
pub fn warm(producer: &Producer) -> Result<(), KafkaError> {
    tokio::task::block_in_place(|| producer.warm(&[POSTBACKS, CLICKS, REJECTS], PATIENCE))
}

/// Waits for what was handed to Kafka before the last answer.
pub fn flush(producer: &Producer) {
    let left = producer.flush(Duration::from_secs(5));
    if left > 0 {
        tracing::warn!(left, "records were not acknowledged before the end");
    }
}

fn read_verdicts(
    app: &App,
    connection: &Connection,
    pending: &Pending,
    reply: &ReplyAddress,
    metrics: &IngressMetrics,
) -> anyhow::Result<()> {
    let check = app.health.check("verdicts");
    let reader = VerdictReader::new(connection, pending.clone(), reply.clone(), metrics.clone())?;
    app.lifecycle
        .spawn_thread(Stage::Workers, "verdicts", move |stop| {
            let waiting = |error: &KafkaError| {
                tracing::warn!(%error, "verdicts can't be read yet; trying again");
                check.failed(error.to_string());
            };
            reader.run(&stop, waiting, || check.ok());
            Ok(())
        })?;
    Ok(())
}

fn read_campaigns(
    app: &App,
    connection: &Connection,
    campaigns: &Campaigns,
    metrics: &IngressMetrics,
) -> anyhow::Result<()> {
    let check = app.health.check("campaigns");
    let reader = CampaignReader::new(connection, campaigns.clone(), metrics.clone())?;
    app.lifecycle
        .spawn_thread(Stage::Workers, "campaigns read", move |stop| {
            let waiting = |error: &KafkaError| {
                tracing::warn!(%error, "campaigns can't be read yet; trying again");
                check.failed(error.to_string());
            };
            reader.run(&stop, waiting, || check.ok());
            Ok(())
        })?;
    Ok(())
}

/// Makes and checks the topics in the background: postbacks are taken as soon as the topics are
/// known to keep them.
fn keep_topics(app: &App, topics: Arc<TopicAdmin>, producer: Producer, gate: Gate) {
    let check = app.health.check("topics");
    let kafka = app.settings.kafka.clone();
    app.lifecycle
        .spawn(Stage::Workers, "topics", |stop| async move {
            let attempt = || async {
                prepare_topics(&kafka, &topics).await?;
                warm(&producer)
            };
            if retry(&stop, &check, "the topics can't be used", attempt)
                .await
                .is_some()
            {
                check.ok();
                gate.open();
                stop.cancelled().await;
            }
            Ok(())
        });
}
