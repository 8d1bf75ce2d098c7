//! Waiting until everything is at rest, and looking at it.

use super::evidence::{Evidence, Partition, Store, Told, Topics};
use super::records;
use super::said::AnswerKind;
use super::store::StoreAccess;
use crate::history::History;
use crate::http::Connection;
use crate::kcat::{self, Broker, Record};
use crate::stack::{Kind, Stack};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Where to look.
#[derive(Clone, Debug)]
pub struct Installation {
    pub store: StoreAccess,
    /// Bootstrap brokers.
    pub bootstrap: String,
    /// Whether these are standalone's own.
    pub embedded: bool,
    /// Who answers status questions.
    pub reports: SocketAddr,
}

impl From<&Stack> for Installation {
    fn from(stack: &Stack) -> Self {
        let dir = &stack.ingress.dir;
        let setting = |name: &str| stack.settings.get(name).map(String::as_str);
        let store = match setting("STORE__URL") {
            Some(url) => match url.strip_prefix("sqlite:") {
                Some(path) => StoreAccess::Sqlite(dir.join(path)),
                None => StoreAccess::Postgres(url.to_owned()),
            },
            None => {
                let data = setting("DATA_DIR").map_or(Path::new("data"), Path::new);
                StoreAccess::Sqlite(dir.join(data).join("postern.db"))
            }
        };
        Self {
            store,
            bootstrap: stack.bootstrap.clone(),
            embedded: stack.kind == Kind::Embedded,
            reports: stack.reports_address(),
        }
    }
}

/// How to look.
#[derive(Copy, Clone, Debug)]
pub struct Options {
    /// How long it may take until everything is at rest.
    pub patience: Duration,
    /// How many statuses are asked for beside those of all queued postbacks.
    pub sample: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(60),
            sample: 200,
        }
    }
}

const CLICKS: &str = "postern.clicks";
const POSTBACKS: &str = "postern.postbacks";
const CONVERSIONS: &str = "postern.conversions";
/// Connections to the reports role.
const CONNECTIONS: usize = 4;

impl Evidence {
    /// Waits until everything is at rest, then looks at store, topics and statuses. The callers
    /// of the history must have ended. Panics where store or brokers can't be read at all.
    pub async fn collect(
        installation: &Installation,
        history: &History,
        options: &Options,
    ) -> Self {
        let broker = Broker {
            bootstrap: &installation.bootstrap,
            embedded: installation.embedded,
        };
        let deadline = Instant::now() + options.patience;
        let (clicks, postbacks, store, unsettled) = loop {
            let clicks = kcat::read(broker, CLICKS);
            let postbacks = kcat::read(broker, POSTBACKS);
            let ends = [ends(&clicks), ends(&postbacks)];
            let unsettled = settled(&installation.store, &ends, deadline).await;
            let store = read(&installation.store, deadline).await;
            // What came after the topics were read, such as a barrier or a late acknowledgement,
            // calls for another look.
            let grown = store.partitions.iter().any(|row| {
                let end = |topic: &Ends| topic.get(&row.partition).copied().unwrap_or(0);
                row.clicks > end(&ends[0])
                    || row.postbacks > end(&ends[1])
                    || row.published != row.sequence
            });
            if !grown || Instant::now() >= deadline {
                break (clicks, postbacks, store, unsettled);
            }
        };
        let mut evidence = Self {
            store,
            topics: topics(&clicks, &postbacks, &kcat::read(broker, CONVERSIONS)),
            unsettled,
            refilled: false,
            ..Self::default()
        };
        evidence.statuses = statuses(installation.reports, asked(history, options.sample)).await;
        evidence
    }
}

/// The next offset per partition.
type Ends = BTreeMap<i64, i64>;

fn ends(records: &[Record]) -> Ends {
    let mut ends = Ends::new();
    for record in records {
        let end = ends.entry(record.partition).or_default();
        *end = (*end).max(record.offset + 1);
    }
    ends
}

/// Waits until the partitions have reached both ends and told of every conversion; gives what
/// has not when the time is over.
async fn settled(store: &StoreAccess, ends: &[Ends; 2], deadline: Instant) -> Vec<String> {
    loop {
        let behind = match store.partitions() {
            Ok(rows) => behind(&rows, ends),
            Err(error) => vec![format!("the store can't be read: {error}")],
        };
        if behind.is_empty() || Instant::now() >= deadline {
            return behind;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) fn behind(rows: &[Partition], ends: &[Ends; 2]) -> Vec<String> {
    let mut behind = Vec::new();
    let numbers: BTreeSet<i64> = rows
        .iter()
        .map(|row| row.partition)
        .chain(ends.iter().flat_map(|topic| topic.keys().copied()))
        .collect();
    for number in numbers {
        let none = Partition::default();
        let row = rows
            .iter()
            .find(|row| row.partition == number)
            .unwrap_or(&none);
        for (topic, position, ends) in [
            (CLICKS, row.clicks, &ends[0]),
            (POSTBACKS, row.postbacks, &ends[1]),
        ] {
            let end = ends.get(&number).copied().unwrap_or(0);
            if position < end {
                behind.push(format!(
                    "partition {number} of {topic} is {} records behind: at {position} of {end}",
                    end - position
                ));
            }
        }
        if row.published != row.sequence {
            behind.push(format!(
                "partition {number} has published the events up to {} of {}",
                row.published, row.sequence
            ));
        }
    }
    behind
}

async fn read(store: &StoreAccess, deadline: Instant) -> Store {
    loop {
        match store.read() {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn topics(clicks: &[Record], postbacks: &[Record], conversions: &[Record]) -> Topics {
    let mut topics = Topics::default();
    for record in clicks {
        match records::click(record) {
            Ok(click) => {
                if record.time_type == "logappend"
                    && let Ok(time) = u64::try_from(record.time)
                {
                    topics.appended.insert(click.place, time);
                }
                topics.clicks.push(click);
            }
            Err(is_barrier) => topics.unreadable += usize::from(!is_barrier),
        }
    }
    for record in postbacks {
        match records::postback(record) {
            Some(postback) => topics.postbacks.push(postback),
            None => topics.unreadable += 1,
        }
    }
    for record in conversions {
        match records::event(record) {
            Some(event) => topics.events.push(event),
            None => topics.unreadable += 1,
        }
    }
    topics
}

/// The ids of all queued postbacks, and of every so-many-th of the other decided ones.
fn asked(history: &History, sample: usize) -> Vec<String> {
    let recorded = history.recorded();
    let of = |wanted: &dyn Fn(AnswerKind) -> bool| -> Vec<&str> {
        let calls = recorded.postbacks.iter();
        calls
            .filter(|call| wanted(call.kind()))
            .filter_map(|call| call.request_id())
            .collect()
    };
    let queued = of(&|kind| kind == AnswerKind::Queued);
    let others = of(&|kind| {
        matches!(
            kind,
            AnswerKind::Standard
                | AnswerKind::Duplicate
                | AnswerKind::Updated
                | AnswerKind::ClickNotFound
                | AnswerKind::ClickExpired
                | AnswerKind::Forbidden
        )
    });
    let stride = others.len().div_ceil(sample.max(1)).max(1);
    let sampled = others.into_iter().step_by(stride).take(sample);
    let all: BTreeSet<&str> = queued.into_iter().chain(sampled).collect();
    all.into_iter().map(str::to_owned).collect()
}

async fn statuses(reports: SocketAddr, ids: Vec<String>) -> BTreeMap<String, Told> {
    let mut askers = JoinSet::new();
    for part in ids.chunks(ids.len().div_ceil(CONNECTIONS).max(1)) {
        askers.spawn(ask(reports, part.to_vec()));
    }
    let mut told = BTreeMap::new();
    while let Some(answers) = askers.join_next().await {
        told.extend(answers.unwrap());
    }
    told
}

/// Asks for one after the other over one connection, and over a new one where it was closed.
async fn ask(reports: SocketAddr, ids: Vec<String>) -> Vec<(String, Told)> {
    let mut connection = None;
    let mut told = Vec::new();
    for id in ids {
        let target = format!("/v1/postback/status?request_id={id}");
        let mut last = Told::Nothing("not asked".to_owned());
        for _ in 0..3 {
            let asked = async {
                let mut open = match connection.take() {
                    Some(open) => open,
                    None => Connection::open(reports).await?,
                };
                let answer = open.request("GET", &target, &[], None).await?;
                if answer.header("connection") != Some("close") {
                    connection = Some(open);
                }
                Ok::<_, std::io::Error>(answer)
            };
            match asked.await {
                Ok(answer) => {
                    last = Told::Answer {
                        status: answer.status,
                        body: answer.body,
                    };
                    break;
                }
                Err(error) => last = Told::Nothing(error.to_string()),
            }
        }
        told.push((id, last));
    }
    told
}
