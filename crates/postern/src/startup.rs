//! What every role does before and around its work: metrics, admin server, and patience with a
//! Kafka or a store that isn't there yet.

use crate::config::{Kafka, Settings};
use crate::kafka_metrics;
use anyhow::Context as _;
use postern_kafka::{CLICKS, Connection, KafkaError, Observer, POSTBACKS, Producer, TopicAdmin};
use postern_runtime::admin::{self, Check, Health};
use postern_runtime::http::{Handler, HttpLimits, HttpMetrics, serve};
use postern_runtime::lifecycle::{Lifecycle, Stage};
use postern_runtime::metrics::Metrics;
use postern_runtime::telemetry::chain;
use postern_store::{Store, StoreError, Topics};
use prometheus::IntCounterVec;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a question to Kafka may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts at start, and two looks at what a role depends on.
const PAUSE: Duration = Duration::from_secs(2);

/// What the parts of a role share.
pub struct App {
    pub settings: Settings,
    pub lifecycle: Lifecycle,
    pub metrics: Metrics,
    pub health: Health,
    http_metrics: HttpMetrics,
    replaced: IntCounterVec,
    kafka: Observer,
    serving: Option<Check>,
}

impl App {
    /// Hears signals and serves the admin endpoints from here on.
    ///
    /// A process that `serves` is not ready before [`Self::serve`] has its port.
    pub async fn start(
        settings: Settings,
        role: &'static str,
        serves: bool,
    ) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle::with_signals().context("signals can't be handled")?;
        let metrics = Metrics::new("postern")?;
        let health = Health::new(&metrics)?;
        let http_metrics = HttpMetrics::register(&metrics)?;
        let replaced = metrics.counters(
            "kafka_producer_replaced_total",
            "Times that Kafka's client stopped delivering and was replaced, by producer.",
            &["producer"],
        )?;
        let kafka = kafka_metrics::observer(&metrics)?;
        metrics
            .gauges(
                "build_info",
                "1; its labels tell which release this is, and in which role.",
                &["version", "role"],
            )?
            .with_label_values(&[env!("CARGO_PKG_VERSION"), role])
            .set(1);
        let serving = serves.then(|| health.check("http"));
        let listener = bind(settings.admin_listen, "admin.listen").await?;
        tracing::info!(address = %listener.local_addr()?, "admin server listens");
        let server = http_metrics.server("admin");
        let (admin_metrics, admin_health) = (metrics.clone(), health.clone());
        lifecycle.spawn(Stage::Base, "admin", |stop| async move {
            admin::run(listener, admin_metrics, admin_health, Some(server), stop)
                .await
                .map_err(Into::into)
        });
        Ok(Self {
            settings,
            lifecycle,
            metrics,
            health,
            http_metrics,
            replaced,
            kafka,
            serving,
        })
    }

    /// A way to reach Kafka whose clients are measured.
    pub fn connection(&self) -> anyhow::Result<Connection> {
        let connection = self.settings.kafka.connection()?;
        Ok(connection.observed(self.kafka.clone()))
    }

    /// Serves `handler` on `http.listen`; after the last answer calls `drained`, off the
    /// runtime's threads. Gives the address.
    pub async fn serve<H: Handler>(
        &self,
        name: &'static str,
        handler: H,
        drained: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<SocketAddr> {
        let listener = bind(self.settings.http_listen, "http.listen").await?;
        let address = listener.local_addr()?;
        let limits = HttpLimits {
            metrics: Some(self.http_metrics.server(name)),
            ..self.settings.http.clone()
        };
        self.lifecycle.spawn(Stage::Edge, name, |stop| async move {
            serve(listener, limits, handler, stop).await?;
            tokio::task::spawn_blocking(drained).await?;
            Ok(())
        });
        if let Some(check) = &self.serving {
            check.ok();
        }
        tracing::info!(%address, name, "listens");
        Ok(address)
    }

    /// Waits for the end and drains.
    pub async fn finish(self) -> anyhow::Result<()> {
        let outcome = self
            .lifecycle
            .run_until_done(self.settings.shutdown_timeout)
            .await?;
        anyhow::ensure!(
            outcome.is_clean(),
            "not everything ended in time: {:?} {:?}",
            outcome.abandoned,
            outcome.failures
        );
        Ok(())
    }

    /// Looks after Kafka from here on: its check follows whether a broker answers.
    pub fn watch_kafka(&self, topics: Arc<TopicAdmin>, check: Check) {
        self.lifecycle
            .spawn(Stage::Workers, "kafka watch", |stop| async move {
                watch(&stop, &check, || {
                    let topics = topics.clone();
                    async move {
                        tokio::task::spawn_blocking(move || topics.ping())
                            .await
                            .map_err(|error| error.to_string())?
                            .map_err(|error| error.to_string())
                    }
                })
                .await;
                Ok(())
            });
    }

    /// Looks after a producer from here on: its client is replaced where it stops delivering.
    pub fn tend(&self, name: &'static str, producer: Producer) -> anyhow::Result<()> {
        let replaced = self.replaced.with_label_values(&[name]);
        self.lifecycle
            .spawn_thread(Stage::Base, &format!("{name} watch"), move |stop| {
                producer.tend(&stop, |why| {
                    replaced.inc();
                    tracing::warn!(
                        producer = name,
                        why,
                        "kafka's client was replaced; what it had queued is sent again"
                    );
                });
                Ok(())
            })?;
        Ok(())
    }

    /// Looks after the store from here on.
    pub fn watch_store(&self, store: Arc<dyn Store>) {
        let check = self.health.check("store");
        self.lifecycle
            .spawn(Stage::Workers, "store watch", |stop| async move {
                watch(&stop, &check, || {
                    let store = store.clone();
                    async move { store.ping().await.map_err(|error| chain(&error)) }
                })
                .await;
                Ok(())
            });
    }
}

async fn watch<F, Fut>(stop: &CancellationToken, check: &Check, look: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<(), String>>,
{
    loop {
        match look().await {
            Ok(()) => check.ok(),
            Err(why) => check.failed(why),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Binds a listener; the error names the key that says where.
pub async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{key}: can't listen on {address}"))
}

/// Tries until it works or the process stops; each failure is one line, and the check's reason.
/// Gives `None` where the process stops.
pub async fn retry<T, E, F, Fut>(
    stop: &CancellationToken,
    check: &Check,
    what: &str,
    attempt: F,
) -> Option<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Error,
{
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return None,
            result = attempt() => result,
        };
        match result {
            Ok(value) => return Some(value),
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(why, "{what}; trying again");
                check.failed(format!("{what}: {why}"));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Makes the topics where that is configured, and checks them. Gives the partition count of
/// clicks and postbacks.
pub async fn prepare_topics(kafka: &Kafka, topics: &TopicAdmin) -> Result<i32, KafkaError> {
    if kafka.create_topics {
        let created = topics.create(&kafka.plan).await?;
        if !created.is_empty() {
            tracing::info!(topics = created.join(" "), "topics made");
        }
    }
    let mut fatal = Vec::new();
    for finding in topics.check(&kafka.plan).await? {
        if finding.fatal {
            fatal.push(format!("{} {}", finding.topic, finding.what));
        } else {
            tracing::warn!(topic = finding.topic, finding.what, "topic differs");
        }
    }
    if fatal.is_empty() {
        topics.partitions(POSTBACKS)
    } else {
        Err(KafkaError::Topics(fatal.join("; ")))
    }
}

/// Checks that the store has this release's schema and belongs to these topics.
pub async fn prepare_store(
    store: &dyn Store,
    topics: &TopicAdmin,
    partitions: i32,
) -> Result<(), Unprepared> {
    store.check_schema().await?;
    let topics = Topics {
        partitions,
        ..topics_of(topics)?
    };
    store.record_topics(&topics).await?;
    Ok(())
}

/// The topics as they are now.
pub fn topics_of(topics: &TopicAdmin) -> Result<Topics, KafkaError> {
    Ok(Topics {
        partitions: topics.partitions(POSTBACKS)?,
        clicks_id: topics.topic_id(CLICKS)?,
        postbacks_id: topics.topic_id(POSTBACKS)?,
    })
}

/// Why a store can't be used yet.
#[derive(Debug, thiserror::Error)]
pub enum Unprepared {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

/// Topic administration over this connection.
pub fn topic_admin(connection: &Connection) -> anyhow::Result<Arc<TopicAdmin>> {
    Ok(Arc::new(TopicAdmin::new(connection, PATIENCE)?))
}
