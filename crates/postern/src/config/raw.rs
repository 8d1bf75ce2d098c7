//! The configuration as it is written: names, types, defaults and what each key means, nothing
//! checked across keys. docs/CONFIGURATION.md is made of this; see [`super::reference`].

use super::reference::{Key, Section, Shown as _};
use postern_core::request::InvalidRevenue;
use postern_runtime::settings::{Options, Secret, Size, Span};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

macro_rules! with_defaults {
    ($name:ident { $($(#[doc = $meaning:literal])* $field:ident: $type:ty = $default:expr,)* }) => {
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $meaning])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

/// Keys with their defaults. The comment of a key is what the reference says of it; behind `=>`
/// stands what it shows as the default where the value can't say it.
macro_rules! section {
    ($name:ident { $($(#[doc = $meaning:literal])* $field:ident: $type:ty = $default:expr
        $(=> $shown:literal)?,)* }) => {
        with_defaults!($name { $($(#[doc = $meaning])* $field: $type = $default,)* });

        impl Section for $name {
            fn keys(&self) -> Vec<Key> {
                vec![$(Key {
                    name: stringify!($field),
                    default: default_of!(self.$field $(, $shown)?),
                    meaning: [$($meaning),*].concat(),
                },)*]
            }
        }
    };
}

macro_rules! default_of {
    ($value:expr) => {
        $value.shown()
    };
    ($value:expr, $shown:literal) => {
        $shown.to_owned()
    };
}

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

const fn days(days: u64) -> Span {
    seconds(days * 24 * 60 * 60)
}

with_defaults!(Raw {
    http: Http = Http::default(),
    admin: Admin = Admin::default(),
    log: Log = Log::default(),
    kafka: Kafka = Kafka::default(),
    store: Store = Store::default(),
    data_dir: PathBuf = PathBuf::from("./data"),
    clicks: Clicks = Clicks::default(),
    answer: Answer = Answer::default(),
    revenue: Revenue = Revenue::default(),
    status: Status = Status::default(),
    refusals: Refusals = Refusals::default(),
    consumer: Consumer = Consumer::default(),
    reports: Reports = Reports::default(),
    unmatched: Unmatched = Unmatched::default(),
    retention: Retention = Retention::default(),
    spool: Spool = Spool::default(),
    broker: Broker = Broker::default(),
    shutdown: Shutdown = Shutdown::default(),
});

section!(Http {
    /// Address of ingress and reports.
    listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8080)),
    /// Answer refused postbacks with 200 for callers that can't handle other codes.
    always_200: bool = false,
    /// Addresses and networks whose `X-Forwarded-For` is believed. In the environment: separated by
    /// commas.
    trusted_proxies: Vec<String> = Vec::new(),
    /// Connections at a time. Further ones, up to an eighth as many, are answered 503 and closed;
    /// who comes then waits in the system's queue.
    max_connections: usize = 10_000,
    /// Requests answered at a time; further ones get 503 at once.
    max_in_flight: usize = 10_000,
    /// Bodies that an ingress has in memory at a time, by their `Content-Length`, or by
    /// `http.max_body` where there is none; further requests get 503 at once.
    max_queued_bytes: Size = Size::mib(64),
    /// Postbacks, checks and redirects per second of one address (IPv6: /64), after that 429
    /// `rate_limited`; `0` is any number. Networks send from few addresses: set it well above what
    /// one of them sends.
    rate_per_address: u32 = 0,
    /// Longest body.
    max_body: Size = Size::mib(1),
    /// Longest wait for a request's head.
    header_timeout: Span = seconds(10),
    /// Longest wait for its body.
    body_timeout: Span = seconds(10),
    /// Longest wait for the next request of a connection.
    idle_timeout: Span = seconds(75),
});

section!(Admin {
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9100)),
});

section!(Log {
    /// Log filter, as `warn` or `info,postern_ingress=debug`.
    filter: String = "info".to_owned(),
    /// `human`, `json`, or by whether standard error is a terminal.
    format: LogFormat = LogFormat::Auto,
});

#[derive(Copy, Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Human,
    Json,
}

section!(Kafka {
    /// Bootstrap brokers. Not in standalone, which runs its own.
    brokers: Option<String> = None => "`localhost:9092`",
    /// A table passed to librdkafka, for example `"security.protocol" = "SASL_SSL"`. In the
    /// environment: `POSTERN__KAFKA__OPTIONS__SECURITY__PROTOCOL`. Options that carry a promise are
    /// refused: acks, idempotence, partitioner, offset reset, commits, isolation, assignor, group,
    /// timeouts of delivery.
    options: Options = Options::default(),
    /// Accept topics with one copy of each record.
    allow_single_replica: bool = false,
    /// Make missing topics at start. Standalone always does.
    create_topics: bool = false,
    /// Partitions of clicks, postbacks and conversions. Can't be changed once the store has been
    /// used.
    partitions: Option<u16> = None => "`4` (standalone `1`)",
    /// Partitions of verdicts.
    verdict_partitions: Option<u16> = None => "`12` (standalone `1`)",
    /// How long clicks stay on their topic: attribution window and replay horizon.
    clicks_retention: Span = days(37),
    /// How far back postbacks can be replayed.
    postbacks_retention: Span = days(14),
    /// How long conversion events stay for downstream systems.
    conversions_retention: Span = days(7),
});

section!(Store {
    /// `postgres://user:password@host/database` or `sqlite:PATH`.
    url: Option<Secret> = None => "standalone: `sqlite:` in `data_dir`",
    /// A file to read it from.
    url_file: Option<PathBuf> = None,
    /// Most PostgreSQL connections of a process; reports hold up to as many again for what people
    /// ask, and each of a consumer's workers has one of its own.
    pool_size: usize = 8,
});

section!(Clicks {
    /// Bearer token of `POST /v1/clicks`, at least 16 characters. Unset, the endpoint is closed;
    /// standalone makes one and keeps it in `data_dir`.
    token: Option<Secret> = None,
    /// A file to read it from.
    token_file: Option<PathBuf> = None,
    /// Longest wait of a visitor for his click's acknowledgement; 10ms to 10s.
    redirect_timeout: Span = Span(Duration::from_millis(500)),
});

section!(Answer {
    /// Longest wait for acknowledgement and verdict together; 100ms to 60s.
    timeout: Span = seconds(2),
    /// `accepted` answers `queued` after the acknowledgement, without waiting for the verdict.
    mode: AnswerMode = AnswerMode::Verdict,
});

#[derive(Copy, Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerMode {
    Verdict,
    Accepted,
}

section!(Revenue {
    /// What to do with a revenue that isn't one: `reject`, `zero` or `php`; see
    /// [MIGRATION.md](MIGRATION.md).
    invalid: InvalidRevenue = InvalidRevenue::Reject,
});

section!(Status {
    /// A table of callers' status words, added to the common ones of [API.md](API.md#statuses) or
    /// changing them: `lead = "approved"`. Each word has at most 64 bytes; its status is `approved`,
    /// `pending`, `rejected` or `reversed`. In the environment: `POSTERN__STATUS__WORDS__LEAD`. The
    /// ingress maps words.
    words: Options = Options::default(),
});

section!(Refusals {
    /// Refused postbacks per minute of one address (IPv6: /64) that go into the log.
    per_address: u32 = 600,
    /// Refused postbacks per second of one ingress that go into the log.
    total: u32 = 1000,
});

section!(Consumer {
    /// Threads that consume, each a member of the group; in standalone they share the partitions out
    /// among themselves.
    workers: usize = 1,
    /// Most records in one transaction.
    max_batch: usize = 1000,
    /// A consumer that says nothing for so long has lost its partitions; 6s to 5m. Shorter means
    /// that others take over sooner from one that died without a word. No meaning in standalone.
    session_timeout: Span = seconds(10),
});

section!(Reports {
    /// Longest question to the store, or page of an export; 100ms to 10m.
    query_timeout: Span = seconds(30),
    /// Lists that are streamed as CSV or NDJSON at a time; further ones get 429.
    max_exports: usize = 4,
    /// Wrong tokens of one address (IPv6: /64) within a minute; then it gets 429 until the minute is
    /// over.
    failures_per_address: u32 = 30,
});

section!(Unmatched {
    /// Postbacks of one address (IPv6: /64) that an ingress answers with `click_not_found` in a
    /// minute; further ones of it don't wait for their clicks, until a minute brings fewer.
    per_address: u32 = 6000,
    /// Postbacks that wait for one click.
    per_click: usize = 16,
    /// Postbacks of a partition that wait for their clicks.
    per_partition: i64 = 100_000,
});

section!(Retention {
    /// How long the store keeps clicks, by the time of the click; longer where a campaign's
    /// attribution window is. At least 1h.
    clicks: Span = days(45),
    /// How long it keeps the log of postbacks; not shorter than `kafka.postbacks_retention`.
    log: Span = days(90),
    /// How long a postback waits for its click; at least 1h, not longer than `retention.log`.
    unmatched: Span = days(7),
});

section!(Spool {
    /// What an ingress keeps in `data_dir/spool` while Kafka doesn't acknowledge; at least 1MiB. A
    /// postback takes about a kilobyte. `0` is no spool: without Kafka, postbacks are then refused
    /// with 503 and the ingress isn't ready.
    max_bytes: Size = Size::mib(1024),
});

section!(Broker {
    /// Standalone's embedded broker; port 0 picks a free one.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 19092)),
});

section!(Shutdown {
    /// Longest drain after SIGTERM. A second signal ends at once.
    timeout: Span = seconds(25),
});
