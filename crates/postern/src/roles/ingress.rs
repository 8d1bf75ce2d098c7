//! `postern ingress`.

use crate::config::Settings;
use crate::startup::{App, PATIENCE, prepare_topics, retry, topic_admin};
use anyhow::Context as _;
use postern_ingress::{
    CampaignReader, Campaigns, Durability, Gate, Ingress, IngressMetrics, KafkaSide, Left, Pending,
    ReplyAddress, VerdictReader,
};
use postern_kafka::{
    CLICKS, Connection, KafkaError, POSTBACKS, Producer, ProducerOptions, REJECTS, TopicAdmin,
};
use postern_runtime::admin::Check;
use postern_runtime::lifecycle::Stage;
use postern_spool::{Spool, SpoolOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Runs the role until the process is told to stop.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let app = App::start(settings, "ingress", true).await?;
    let connection = app.connection()?;
    let topics = topic_admin(&connection)?;
    let spool = open_spool(&app.settings)?;
    // With a spool behind it, an ingress can do without Kafka for a while.
    let check = |name| {
        let check = app.health.check(name);
        if spool.is_some() {
            check.inessential()
        } else {
            check
        }
    };
    let (verdicts, campaigns, checked) = (check("verdicts"), check("campaigns"), check("topics"));
    app.watch_kafka(topics.clone(), check("kafka"));
    let parts = Parts::new(&app, spool)?;
    read_verdicts(&app, &connection, &parts, verdicts)?;
    let gate = parts.gate.clone();
    let (ingress, end) = build(&app, &connection, parts, campaigns)?;
    keep_topics(&app, topics, end.producer.clone(), gate, checked);
    app.serve("ingress", ingress, || end.wait()).await?;
    app.finish().await
}

/// What an ingress is made of.
pub struct Parts {
    pub gate: Gate,
    pub pending: Pending,
    reply: ReplyAddress,
    metrics: IngressMetrics,
    spool: Option<Spool>,
}

impl Parts {
    pub fn new(app: &App, spool: Option<Spool>) -> anyhow::Result<Self> {
        Ok(Self {
            gate: Gate::default(),
            pending: Pending::new(&instance()),
            reply: ReplyAddress::default(),
            metrics: IngressMetrics::new(&app.metrics)?,
            spool,
        })
    }
}

/// What is to be waited for when the last answer has been given.
pub struct End {
    pub producer: Producer,
    left: Arc<Left>,
    spool: Option<Spool>,
}

impl End {
    /// Blocks the thread.
    pub fn wait(self) {
        Handle::current().block_on(self.left.settled());
        let left = self.producer.flush(Duration::from_secs(5));
        if left > 0 {
            tracing::warn!(left, "records were not acknowledged before the end");
        }
        let entries = self.spool.map_or(0, |spool| spool.status().entries);
        if entries > 0 {
            tracing::warn!(
                entries,
                "records stay in the spool: the next ingress with this data_dir hands them to \
                 kafka, or postern spool drain"
            );
        }
    }
}

/// The spool of an ingress, where there is to be one. Blocks the thread while what is there is
/// read.
pub fn open_spool(settings: &Settings) -> anyhow::Result<Option<Spool>> {
    let Some(max_bytes) = settings.spool_bytes else {
        tracing::warn!("spool.max_bytes is 0: without kafka, postbacks are refused");
        return Ok(None);
    };
    let options = SpoolOptions {
        directory: settings.spool_directory(),
        max_bytes,
    };
    let opened = Spool::open(options).context(
        "the spool can't be opened (data_dir says where it lies, spool.max_bytes = 0 does without)",
    )?;
    for aside in &opened.set_aside {
        tracing::error!(
            file = %aside.file.display(),
            bytes = aside.bytes,
            "a part of the spool is damaged and was set aside; the rest is used"
        );
    }
    let status = opened.spool.status();
    if status.entries > 0 {
        tracing::info!(
            records = status.entries,
            bytes = status.bytes,
            "an earlier process left records in the spool"
        );
    }
    Ok(Some(opened.spool))
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

/// The ingress, reading campaigns and draining its spool already, and what to wait for at its end.
pub fn build(
    app: &App,
    connection: &Connection,
    parts: Parts,
    campaigns_check: Check,
) -> anyhow::Result<(Ingress, End)> {
    let config = app.settings.ingress.clone();
    let producer = Producer::new(
        connection,
        &ProducerOptions {
            name: "ingress".to_owned(),
            // Below the answer's own deadline, so that an answer knows what became of its record.
            delivery_timeout: config.answer_timeout * 3 / 4,
            queue_messages: 100_000,
            linger: ProducerOptions::PROMPT,
        },
    )?;
    app.tend("ingress", producer.clone())?;
    let campaigns = Campaigns::default();
    read_campaigns(app, connection, &campaigns, &parts.metrics, campaigns_check)?;
    let kafka = KafkaSide {
        producer: producer.clone(),
        gate: parts.gate,
        pending: parts.pending,
        reply: parts.reply,
    };
    let spool = parts.spool;
    let (ingress, drain, watch) =
        Ingress::new(config, kafka, spool.clone(), campaigns, parts.metrics);
    if let Some(drain) = drain {
        app.lifecycle
            .spawn(Stage::Workers, "spool drain", |stop| async move {
                drain.run(stop).await;
                Ok(())
            });
    }
    let check = app.health.check("durable");
    app.lifecycle
        .spawn(Stage::Workers, "durability", |stop| async move {
            watch.run(stop, |durability| tell(&check, durability)).await;
            Ok(())
        });
    let end = End {
        producer,
        left: ingress.left_behind(),
        spool,
    };
    Ok((ingress, end))
}

fn tell(check: &Check, durability: Durability) {
    match durability {
        Durability::Kafka => check.ok(),
        Durability::KafkaOnly(why) | Durability::SpoolOnly(why) => check.degraded(why),
        Durability::Nowhere(why) => check.failed(why),
    }
}

/// Lets the producer find its topics before the first postback comes.
pub fn warm(producer: &Producer) -> Result<(), KafkaError> {
    tokio::task::block_in_place(|| producer.warm(&[POSTBACKS, CLICKS, REJECTS], PATIENCE))
}

fn read_verdicts(
    app: &App,
    connection: &Connection,
    parts: &Parts,
    check: Check,
) -> anyhow::Result<()> {
    let (pending, reply) = (parts.pending.clone(), parts.reply.clone());
    let reader = VerdictReader::new(connection, pending, reply, parts.metrics.clone())?;
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
    check: Check,
) -> anyhow::Result<()> {
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

/// Makes and checks the topics in the background: records go to Kafka as soon as the topics are
/// known to keep them.
fn keep_topics(app: &App, topics: Arc<TopicAdmin>, producer: Producer, gate: Gate, check: Check) {
    let kafka = app.settings.kafka.clone();
    app.lifecycle
        .spawn(Stage::Workers, "topics", |stop| async move {
            let attempt = || async {
                let partitions = prepare_topics(&kafka, &topics).await?;
                warm(&producer)?;
                Ok::<_, KafkaError>(partitions)
            };
            let prepared = retry(&stop, &check, "the topics can't be used", attempt).await;
            if let Some(partitions) = prepared {
                check.ok();
                gate.open(partitions);
                stop.cancelled().await;
            }
            Ok(())
        });
}
