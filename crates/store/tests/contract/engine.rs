//! The engines, and databases to run a case on.

use postern_core::campaign::{Campaign, Dedupe};
use postern_store::{Store, StoreOptions, open};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

/// Where databases come from.
pub enum Engine {
    Sqlite,
    Postgres(Server),
}

/// What a batch writes to.
const TABLES: [&str; 10] = [
    "clicks",
    "conversions",
    "conversion_statuses",
    "click_stats",
    "click_totals",
    "conversion_stats",
    "conversion_totals",
    "postback_log",
    "postback_changes",
    "unmatched",
];

/// A PostgreSQL server: a given one, or one that ends with this value.
pub struct Server {
    url: String,
    /// The suite's database on it.
    name: String,
    temporary: Option<TempDir>,
}

/// An empty store with its schema. PostgreSQL's cases follow one another on one database, which
/// is emptied in between: making one for each takes longer than the cases.
pub struct Database {
    pub store: Arc<dyn Store>,
    pub url: String,
    postgres: bool,
    /// For looking into PostgreSQL beside the store.
    client: OnceCell<tokio_postgres::Client>,
    _directory: Option<TempDir>,
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/postgres/postgres.sh")
}

impl Engine {
    pub fn sqlite() -> Self {
        Self::Sqlite
    }

    /// `None` where there is no PostgreSQL and that is not a failure.
    pub async fn postgres() -> Option<Self> {
        let server = match std::env::var("POSTERN_TEST_POSTGRES") {
            Ok(url) => Ok(Server::at(&url, None)),
            Err(_) => Server::start(),
        };
        match server {
            Ok(server) => {
                execute(&server.url, &format!("CREATE DATABASE {}", server.name)).await;
                Some(Self::Postgres(server))
            }
            Err(why) => {
                let required = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!required, "PostgreSQL can't be had: {why}");
                say(&format!(
                    "the contract was NOT run on PostgreSQL: {why}; install the package \
                     postgresql, or name a server in POSTERN_TEST_POSTGRES"
                ));
                None
            }
        }
    }

    /// An empty store with the schema.
    pub async fn database(&self) -> Database {
        let (url, directory) = match self {
            Self::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("store.db");
                (format!("sqlite:{}", path.display()), Some(directory))
            }
            Self::Postgres(server) => {
                let url = with_database(&server.url, &server.name);
                let empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
                execute(&url, empty).await;
                (url, None)
            }
        };
        let database = Database {
            store: open(&url, StoreOptions::default()).unwrap(),
            url,
            postgres: directory.is_none(),
            client: OnceCell::new(),
            _directory: directory,
        };
        database.store.migrate().await.unwrap();
        database
    }

    /// Drops the suite's database.
    pub async fn remove(&self) {
        if let Self::Postgres(server) = self {
            let drop = format!("DROP DATABASE {} WITH (FORCE)", server.name);
            execute(&server.url, &drop).await;
        }
    }
}

impl Server {
    fn at(url: &str, temporary: Option<TempDir>) -> Self {
        Self {
            url: url.to_owned(),
            name: format!("postern_test_{}", std::process::id()),
            temporary,
        }
    }

    fn start() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|why| why.to_string())?;
        let output = Command::new(script())
            .args(["start", "--dir"])
            .arg(directory.path())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|why| format!("{}: {why}", script().display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let url = text.lines().find_map(|line| line.strip_prefix("url="));
        match url {
            Some(url) if output.status.success() => Ok(Self::at(url, Some(directory))),
            _ => Err(format!("postgres.sh start: {}", output.status)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(directory) = &self.temporary {
            let _ = Command::new(script())
                .args(["stop", "--dir"])
                .arg(directory.path())
                .status();
        }
    }
}

impl Database {
    /// Another store on the same database, as another process would have it.
    pub fn again(&self) -> Arc<dyn Store> {
        open(&self.url, StoreOptions::default()).unwrap()
    }

    pub fn is_postgres(&self) -> bool {
        self.postgres
    }

    /// Rows of a query, every value as text, null as `-`.
    pub async fn query(&self, sql: &str) -> Vec<Vec<String>> {
        if self.is_postgres() {
            let client = self.client.get_or_init(|| connect(&self.url)).await;
            let messages = client.simple_query(sql).await.unwrap();
            return messages
                .iter()
                .filter_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                })
                .map(|row| {
                    (0..row.len())
                        .map(|index| row.get(index).unwrap_or("-").to_owned())
                        .collect()
                })
                .collect();
        }
        let path = self.url.strip_prefix("sqlite:").unwrap();
        let database = libsql::Builder::new_local(path).build().await.unwrap();
        let connection = database.connect().unwrap();
        let mut rows = connection.query(sql, ()).await.unwrap();
        let mut values = Vec::new();
        while let Some(row) = rows.next().await.unwrap() {
            let row = (0..row.column_count()).map(|index| match row.get_value(index).unwrap() {
                libsql::Value::Null => "-".to_owned(),
                libsql::Value::Integer(integer) => integer.to_string(),
                libsql::Value::Text(text) => text,
                other => panic!("{other:?}"),
            });
            values.push(row.collect());
        }
        values
    }

    /// Several statements, without rows.
    pub async fn script(&self, sql: &str) {
        if self.is_postgres() {
            execute(&self.url, sql).await;
            return;
        }
        let path = self.url.strip_prefix("sqlite:").unwrap();
        let database = libsql::Builder::new_local(path).build().await.unwrap();
        let connection = database.connect().unwrap();
        connection.execute_batch(sql).await.unwrap();
    }

    /// A number.
    pub async fn number(&self, sql: &str) -> i64 {
        self.query(sql).await[0][0].parse().unwrap()
    }

    /// PostgreSQL only: waits until a task's session waits for a lock, or the task is over.
    pub async fn until_it_waits<T>(&self, task: &JoinHandle<T>) {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                     AND datname = current_database()";
        while !task.is_finished() && self.number(waits).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Rows of all tables that a batch writes, together.
    pub async fn rows(&self) -> i64 {
        let mut rows = 0;
        for table in TABLES {
            rows += self.number(&format!("SELECT count(*) FROM {table}")).await;
        }
        rows
    }

    /// Deletes all that batches wrote, and where the partitions stand.
    pub async fn clear(&self) {
        let tables = TABLES
            .iter()
            .chain(&["partitions", "campaigns", "campaign_versions"]);
        let deletes: Vec<_> = tables.map(|table| format!("DELETE FROM {table}")).collect();
        if self.postgres {
            // Together they are one transaction.
            self.query(&deletes.join("; ")).await;
        } else {
            for delete in deletes {
                self.query(&delete).await;
            }
        }
    }

    /// Puts a campaign there, at its version.
    pub async fn campaign(&self, campaign: &Campaign) {
        let settings = serde_json::Value::Object(campaign.settings.to_json());
        let secret = campaign.secret.as_ref();
        let secret = secret.map_or("NULL".to_owned(), |secret| format!("'{}'", secret.expose()));
        self.query(&format!(
            "INSERT INTO campaigns (campaign_id, version, settings, secret) \
             VALUES ({}, {}, '{settings}', {secret}) \
             ON CONFLICT (campaign_id) DO UPDATE SET version = excluded.version, \
             settings = excluded.settings, secret = excluded.secret",
            campaign.campaign_id, campaign.version
        ))
        .await;
    }

    /// One that differs from the default in its dedupe policy.
    pub async fn dedupe(&self, campaign_id: i64, dedupe: Dedupe, version: i64) {
        let mut campaign = Campaign {
            campaign_id,
            version,
            ..Campaign::default()
        };
        campaign.settings.dedupe = dedupe;
        self.campaign(&campaign).await;
    }
}

/// `url` with another database's name; parameters are not kept.
fn with_database(url: &str, name: &str) -> String {
    let url = url.split('?').next().unwrap();
    let authority = url.find("://").unwrap() + 3;
    let end = url[authority..]
        .find('/')
        .map_or(url.len(), |slash| authority + slash);
    format!("{}/{name}", &url[..end])
}

async fn execute(url: &str, sql: &str) {
    connect(url).await.batch_execute(sql).await.unwrap();
}

/// A connection beside the store's; it ends with the client.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

#[expect(clippy::print_stderr, reason = "what wasn't tested has to be seen")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// PostgreSQL only: the server ends all sessions, as a restart does.
pub async fn broken_connections_are_replaced(database: &Database) {
    let store = &database.store;
    store.ping().await.unwrap();
    let client = connect(&database.url).await;
    client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'postern' AND datname = current_database()",
        )
        .await
        .unwrap();
    // One call may still meet a connection that is gone; it says that trying again can help.
    for _ in 0..4 {
        match store.ping().await {
            Ok(()) => return,
            Err(error) => assert!(error.is_retriable(), "{error:?}"),
        }
    }
    panic!("the pool keeps handing out broken connections");
}
