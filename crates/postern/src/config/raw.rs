//! The configuration as it is written: names, types and defaults, nothing checked across keys.
//! docs/CONFIGURATION.md says what each key means.

use postern_core::request::InvalidRevenue;
use postern_runtime::settings::{Options, Secret, Size, Span};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $(pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

const fn days(days: u64) -> Span {
    seconds(days * 24 * 60 * 60)
}

section!(Raw {
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
    listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8080)),
    always_200: bool = false,
    trusted_proxies: Vec<String> = Vec::new(),
    max_connections: usize = 10_000,
    max_in_flight: usize = 10_000,
    max_queued_bytes: Size = Size::mib(64),
    rate_per_address: u32 = 0,
    max_body: Size = Size::mib(1),
    header_timeout: Span = seconds(10),
    body_timeout: Span = seconds(10),
    idle_timeout: Span = seconds(75),
});

section!(Admin {
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9100)),
});

section!(Log {
    filter: String = "info".to_owned(),
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
    brokers: Option<String> = None,
    options: Options = Options::default(),
    allow_single_replica: bool = false,
    create_topics: bool = false,
    partitions: Option<u16> = None,
    verdict_partitions: Option<u16> = None,
    clicks_retention: Span = days(37),
    postbacks_retention: Span = days(14),
    conversions_retention: Span = days(7),
});

section!(Store {
    url: Option<Secret> = None,
    url_file: Option<PathBuf> = None,
    pool_size: usize = 8,
});

section!(Clicks {
    token: Option<Secret> = None,
    token_file: Option<PathBuf> = None,
    redirect_timeout: Span = Span(Duration::from_millis(500)),
});

section!(Answer {
    timeout: Span = seconds(2),
    mode: AnswerMode = AnswerMode::Verdict,
});

#[derive(Copy, Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerMode {
    Verdict,
    Accepted,
}

section!(Revenue {
    invalid: InvalidRevenue = InvalidRevenue::Reject,
});

section!(Status {
    words: Options = Options::default(),
});

section!(Refusals {
    per_address: u32 = 600,
    total: u32 = 1000,
});

section!(Consumer {
    workers: usize = 1,
    max_batch: usize = 1000,
    session_timeout: Span = seconds(10),
});

section!(Reports {
    query_timeout: Span = seconds(30),
    max_exports: usize = 4,
    failures_per_address: u32 = 30,
});

section!(Unmatched {
    per_address: u32 = 6000,
    per_click: usize = 16,
    per_partition: i64 = 100_000,
});

section!(Retention {
    clicks: Span = days(45),
    log: Span = days(90),
    unmatched: Span = days(7),
});

section!(Spool {
    max_bytes: Size = Size::mib(1024),
});

section!(Broker {
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 19092)),
});

section!(Shutdown {
    timeout: Span = seconds(25),
});
