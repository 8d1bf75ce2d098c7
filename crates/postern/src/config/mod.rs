//! The configuration as the roles get it: checked, secrets read, contradictions refused. All of
//! it happens before any port is bound.

mod raw;
pub mod reference;

use anyhow::{Context as _, bail, ensure};
use ipnet::IpNet;
use postern_consumer::Retention;
use postern_core::campaign;
use postern_core::decision::Limits;
use postern_core::request::Rules;
use postern_core::status::StatusWords;
use postern_ingress::{AnswerMode, IngressConfig};
use postern_kafka::{ClientOptions, Connection, Options, TopicPlan};
use postern_runtime::http::HttpLimits;
use postern_runtime::settings::{self, Secret};
use postern_runtime::telemetry::LogFormat;
use postern_store::StoreOptions;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whom the configuration is for: what one needs, another may leave out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Ingress,
    Consumer,
    Reports,
    #[cfg(feature = "standalone")]
    Standalone,
    Migrate,
    Topics,
    /// Commands that look into the store, beside whatever runs.
    Admin,
    /// Commands that need nothing but the rules.
    Rules,
}

impl Role {
    fn is_standalone(self) -> bool {
        #[cfg(feature = "standalone")]
        if self == Self::Standalone {
            return true;
        }
        false
    }

    fn needs_store(self) -> bool {
        matches!(
            self,
            Self::Consumer | Self::Reports | Self::Migrate | Self::Admin
        )
    }
}

/// The checked configuration.
#[derive(Debug)]
pub struct Settings {
    pub log: Log,
    pub admin_listen: SocketAddr,
    pub http_listen: SocketAddr,
    pub http: HttpLimits,
    pub ingress: IngressConfig,
    pub kafka: Kafka,
    /// Empty where the role needs none.
    pub store: Store,
    pub consumer: Consumer,
    pub reports: Reports,
    pub shutdown_timeout: Duration,
    pub data_dir: PathBuf,
    /// Bytes that an ingress' spool may take; `None` where there is to be none.
    pub spool_bytes: Option<u64>,
    #[cfg(feature = "standalone")]
    pub broker_listen: SocketAddr,
}

#[derive(Debug)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Debug)]
pub struct Kafka {
    pub client: ClientOptions,
    pub create_topics: bool,
    pub plan: TopicPlan,
}

impl Kafka {
    /// A checked way to reach Kafka.
    pub fn connection(&self) -> anyhow::Result<Connection> {
        Connection::new(self.client.clone()).context("kafka")
    }
}

#[derive(Debug)]
pub struct Store {
    pub url: Secret,
    pub options: StoreOptions,
}

#[derive(Debug)]
pub struct Reports {
    pub max_exports: usize,
    pub failures_per_address: u32,
}

#[derive(Debug)]
pub struct Consumer {
    pub workers: usize,
    pub max_batch: usize,
    pub session_timeout: Duration,
    pub limits: Limits,
    pub retention: Retention,
}

impl Settings {
    /// Reads and checks. Errors name the key.
    pub fn load(file: Option<&Path>, role: Role) -> anyhow::Result<Self> {
        let raw: raw::Raw = settings::load(file, "POSTERN")?;
        Self::check(raw, role)
    }

    /// Where the spool of an ingress lies.
    pub fn spool_directory(&self) -> PathBuf {
        self.data_dir.join("spool")
    }

    /// Where a standalone keeps the token of its clicks, unless it was told one.
    pub fn clicks_token_file(&self) -> PathBuf {
        self.data_dir.join("clicks.token")
    }

    fn check(raw: raw::Raw, role: Role) -> anyhow::Result<Self> {
        let kafka = kafka(&raw, role)?;
        // Checked for every role, so that a wrong option shows at once.
        kafka.connection()?;
        ensure!(
            raw.shutdown.timeout.0 >= raw.answer.timeout.0 * 2,
            "shutdown.timeout: must be at least twice answer.timeout, so that who waits is answered"
        );
        Ok(Self {
            log: Log {
                // What these say at info is of use to their own developers. The last tells the
                // values of statements, secrets among them, whatever the filter asks for.
                filter: format!(
                    "nisshi=warn,tokio_postgres=warn,{},tokio_postgres::query=info",
                    raw.log.filter
                ),
                format: match raw.log.format {
                    raw::LogFormat::Auto => LogFormat::Auto,
                    raw::LogFormat::Human => LogFormat::Human,
                    raw::LogFormat::Json => LogFormat::Json,
                },
            },
            admin_listen: raw.admin.listen,
            http_listen: raw.http.listen,
            http: http(&raw)?,
            ingress: ingress(&raw)?,
            kafka,
            store: store(&raw, role)?,
            consumer: consumer(&raw)?,
            reports: reports(&raw)?,
            shutdown_timeout: raw.shutdown.timeout.0,
            spool_bytes: spool(&raw)?,
            data_dir: raw.data_dir,
            #[cfg(feature = "standalone")]
            broker_listen: raw.broker.listen,
        })
    }
}

/// The least that a spool is of any use with.
const LEAST_SPOOL: u64 = 1024 * 1024;

fn spool(raw: &raw::Raw) -> anyhow::Result<Option<u64>> {
    match raw.spool.max_bytes.bytes() {
        0 => Ok(None),
        bytes if bytes >= LEAST_SPOOL => Ok(Some(bytes)),
        _ => bail!("spool.max_bytes: must be at least 1MiB, or 0 for no spool"),
    }
}

fn reports(raw: &raw::Raw) -> anyhow::Result<Reports> {
    ensure!(
        (Duration::from_millis(100)..=Duration::from_secs(600))
            .contains(&raw.reports.query_timeout.0),
        "reports.query_timeout: must be from 100ms to 10m"
    );
    ensure!(
        raw.reports.max_exports > 0,
        "reports.max_exports: must be above 0"
    );
    ensure!(
        raw.reports.failures_per_address > 0,
        "reports.failures_per_address: must be above 0"
    );
    Ok(Reports {
        max_exports: raw.reports.max_exports,
        failures_per_address: raw.reports.failures_per_address,
    })
}

fn http(raw: &raw::Raw) -> anyhow::Result<HttpLimits> {
    ensure!(
        raw.http.max_connections > 0,
        "http.max_connections: must be above 0"
    );
    ensure!(
        raw.http.max_in_flight > 0,
        "http.max_in_flight: must be above 0"
    );
    Ok(HttpLimits {
        max_connections: raw.http.max_connections,
        header_timeout: raw.http.header_timeout.0,
        idle_timeout: raw.http.idle_timeout.0,
        // The ingress refuses long URLs itself, so that they get into the log.
        max_uri: 60 * 1024,
        ..HttpLimits::default()
    })
}

fn ingress(raw: &raw::Raw) -> anyhow::Result<IngressConfig> {
    let timeout = raw.answer.timeout.0;
    ensure!(
        (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&timeout),
        "answer.timeout: must be from 100ms to 60s"
    );
    ensure!(
        (Duration::from_millis(10)..=Duration::from_secs(10))
            .contains(&raw.clicks.redirect_timeout.0),
        "clicks.redirect_timeout: must be from 10ms to 10s"
    );
    ensure!(
        raw.http.max_queued_bytes.bytes() >= raw.http.max_body.bytes(),
        "http.max_queued_bytes: must not be below http.max_body"
    );
    let clicks_token = secret(
        raw.clicks.token.as_ref(),
        raw.clicks.token_file.as_deref(),
        "clicks.token",
    )?;
    if let Some(token) = &clicks_token {
        ensure!(
            token.expose().len() >= 16 && token.expose().bytes().all(|b| b.is_ascii_graphic()),
            "clicks.token: must be at least 16 characters, printable ASCII without blanks"
        );
    }
    Ok(IngressConfig {
        answer_timeout: timeout,
        answer_mode: match raw.answer.mode {
            raw::AnswerMode::Verdict => AnswerMode::Verdict,
            raw::AnswerMode::Accepted => AnswerMode::Accepted,
        },
        always_200: raw.http.always_200,
        trusted_proxies: raw
            .http
            .trusted_proxies
            .iter()
            .map(|text| network(text))
            .collect::<anyhow::Result<_>>()?,
        rules: Rules {
            invalid_revenue: raw.revenue.invalid,
            status_words: status_words(raw)?,
        },
        clicks_token,
        redirect_timeout: raw.clicks.redirect_timeout.0,
        max_in_flight: raw.http.max_in_flight,
        max_queued_bytes: raw.http.max_queued_bytes.as_usize(),
        rate_per_address: NonZeroU32::new(raw.http.rate_per_address),
        max_body: raw.http.max_body.as_usize(),
        body_timeout: raw.http.body_timeout.0,
        unmatched_per_address: raw.unmatched.per_address,
        refusals_per_address: raw.refusals.per_address,
        refusals_total: raw.refusals.total,
    })
}

fn network(text: &str) -> anyhow::Result<IpNet> {
    campaign::network(text).map_err(|why| anyhow::anyhow!("http.trusted_proxies: {why}"))
}

/// The common words, and what the configuration says beside them.
fn status_words(raw: &raw::Raw) -> anyhow::Result<StatusWords> {
    let mut words = StatusWords::default();
    for (word, status) in &raw.status.words.0 {
        let status = status
            .parse()
            .with_context(|| format!("status.words.{word}"))?;
        words.set(word, status).context("status.words")?;
    }
    Ok(words)
}

fn kafka(raw: &raw::Raw, role: Role) -> anyhow::Result<Kafka> {
    let standalone = role.is_standalone();
    if standalone && raw.kafka.brokers.is_some() {
        bail!(
            "kafka.brokers: standalone runs its own broker (broker.listen); leave it out, or run \
             the roles ingress, consumer and reports"
        );
    }
    let counted = |value: Option<u16>, default: i32, key: &str| -> anyhow::Result<i32> {
        match value {
            None => Ok(default),
            Some(count) if (1..=1000).contains(&count) => Ok(i32::from(count)),
            Some(_) => bail!("{key}: must be from 1 to 1000"),
        }
    };
    let single = standalone || raw.kafka.allow_single_replica;
    Ok(Kafka {
        client: ClientOptions {
            brokers: raw
                .kafka
                .brokers
                .clone()
                .unwrap_or_else(|| "localhost:9092".to_owned()),
            options: Options(raw.kafka.options.0.clone()),
            fetch_wait: if standalone {
                // The embedded broker waits out half of it before it looks again.
                Duration::from_millis(4)
            } else {
                Duration::from_millis(500)
            },
            // Kafka's Java clients can't read lz4 batches as the embedded broker hands them out.
            compression: if standalone { "none" } else { "lz4" },
        },
        create_topics: standalone || raw.kafka.create_topics,
        plan: TopicPlan {
            partitions: counted(
                raw.kafka.partitions,
                if standalone { 1 } else { 4 },
                "kafka.partitions",
            )?,
            verdict_partitions: counted(
                raw.kafka.verdict_partitions,
                if standalone { 1 } else { 12 },
                "kafka.verdict_partitions",
            )?,
            replication: if single { 1 } else { 3 },
            retention: postern_kafka::Retention {
                clicks: raw.kafka.clicks_retention.0,
                postbacks: raw.kafka.postbacks_retention.0,
                conversions: raw.kafka.conversions_retention.0,
            },
        },
    })
}

fn store(raw: &raw::Raw, role: Role) -> anyhow::Result<Store> {
    let url = secret(
        raw.store.url.as_ref(),
        raw.store.url_file.as_deref(),
        "store.url",
    )?;
    // Where a standalone keeps its data, commands beside it find them.
    let embedded = raw.data_dir.join("postern.db");
    let url = match url {
        Some(url) => url,
        None if role.is_standalone() || (role == Role::Admin && embedded.exists()) => {
            Secret::new(format!("sqlite:{}", embedded.display()))
        }
        None if role.needs_store() => {
            bail!("store.url: must be set for this role, for example postgres://user@host/database")
        }
        None => Secret::new(""),
    };
    ensure!(raw.store.pool_size > 0, "store.pool_size: must be above 0");
    Ok(Store {
        url,
        options: StoreOptions {
            pool_size: raw.store.pool_size,
            query_timeout: raw.reports.query_timeout.0,
        },
    })
}

fn consumer(raw: &raw::Raw) -> anyhow::Result<Consumer> {
    let consumer = &raw.consumer;
    ensure!(
        (1..=64).contains(&consumer.workers),
        "consumer.workers: must be from 1 to 64"
    );
    ensure!(
        (1..=20_000).contains(&consumer.max_batch),
        "consumer.max_batch: must be from 1 to 20000"
    );
    ensure!(
        (Duration::from_secs(6)..=Duration::from_secs(300)).contains(&consumer.session_timeout.0),
        "consumer.session_timeout: must be from 6s to 5m, the limits of Kafka's brokers"
    );
    ensure!(
        raw.unmatched.per_partition >= 0,
        "unmatched.per_partition: must not be below 0"
    );
    Ok(Consumer {
        workers: consumer.workers,
        max_batch: consumer.max_batch,
        session_timeout: consumer.session_timeout.0,
        limits: Limits {
            unmatched_per_click: raw.unmatched.per_click,
            unmatched_per_partition: raw.unmatched.per_partition,
        },
        retention: retention(raw)?,
    })
}

fn retention(raw: &raw::Raw) -> anyhow::Result<Retention> {
    const LEAST: Duration = Duration::from_secs(60 * 60);
    let retention = Retention {
        clicks: raw.retention.clicks.0,
        log: raw.retention.log.0,
        unmatched: raw.retention.unmatched.0,
    };
    for (key, kept) in [
        ("clicks", retention.clicks),
        ("unmatched", retention.unmatched),
    ] {
        ensure!(kept >= LEAST, "retention.{key}: must be at least 1h");
    }
    ensure!(
        retention.log >= raw.kafka.postbacks_retention.0,
        "retention.log: must not be shorter than kafka.postbacks_retention: a postback that is read \
         again is known by its row in the log"
    );
    ensure!(
        retention.unmatched <= retention.log,
        "retention.unmatched: must not be longer than retention.log"
    );
    Ok(retention)
}

/// A secret from its key or its `_file` key, not from both.
fn secret(
    value: Option<&Secret>,
    file: Option<&Path>,
    key: &str,
) -> anyhow::Result<Option<Secret>> {
    match (value, file) {
        (Some(_), Some(_)) => bail!("{key} and {key}_file are both set: keep one"),
        (Some(value), None) => Ok(Some(value.clone())),
        (None, Some(file)) => Secret::from_file(file)
            .map(Some)
            .with_context(|| format!("{key}_file")),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
