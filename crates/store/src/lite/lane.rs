//! A connection and the thread that it works on.

use super::error;
use crate::StoreError;
use crate::observe::Observed;
use libsql::{Connection, Row, Value};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};

/// How long a statement waits for a lock that another process holds on the file.
const BUSY: Duration = Duration::from_secs(5);

/// One connection, used by one call at a time, on a thread where blocking is allowed.
pub(super) struct Lane {
    session: Arc<Mutex<Session>>,
    /// The same connection, for interrupting it.
    connection: Connection,
    observed: Observed,
}

impl Lane {
    /// A connection that keeps up to `cache` KiB of the file in memory.
    pub(super) fn open(
        database: &libsql::Database,
        cache: u32,
        observed: Observed,
    ) -> Result<Self, StoreError> {
        let connection = database.connect().map_err(error::of)?;
        connection.busy_timeout(BUSY).map_err(error::of)?;
        let session = Session {
            connection: connection.clone(),
        };
        let cache = format!("PRAGMA cache_size = -{cache}");
        for pragma in [
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            &cache,
            "PRAGMA journal_size_limit = 67108864",
            // Pages of 4 KiB, 64 MiB: what several batches changed is then copied once.
            "PRAGMA wal_autocheckpoint = 16384",
            "PRAGMA temp_store = MEMORY",
        ] {
            session.rows(pragma, Vec::new(), |_| Ok(()))?;
        }
        Ok(Self {
            session: Arc::new(Mutex::new(session)),
            connection,
            observed,
        })
    }

    /// Runs `work` when the calls before it are done. Given up while it waits, it doesn't run;
    /// given up later, it runs to its end all the same.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let run = async {
            let session = Arc::clone(&self.session).lock_owned().await;
            tokio::task::spawn_blocking(move || work(&session))
                .await
                .map_err(|why| StoreError::Unavailable(Box::new(why)))?
        };
        self.observed.call(run, || None).await
    }

    /// The same, but once it runs it is interrupted after `timeout`, also where nobody waits for it
    /// any more; waiting for the calls before it is given up after that time too.
    pub(super) async fn run_within<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let run = async {
            let waiting = Arc::clone(&self.session).lock_owned();
            let Ok(session) = tokio::time::timeout(timeout, waiting).await else {
                return Err(StoreError::TooSlow);
            };
            let (done, ended) = oneshot::channel::<()>();
            tokio::spawn(interrupt_after(timeout, self.connection.clone(), ended));
            tokio::task::spawn_blocking(move || {
                let result = work(&session);
                // Before the session is let go of: what comes next isn't meant.
                drop(done);
                result
            })
            .await
            .map_err(|why| StoreError::Unavailable(Box::new(why)))?
        };
        self.observed.call(run, || None).await
    }
}

/// Interrupts what runs on a connection, unless it ends in time.
async fn interrupt_after(
    timeout: Duration,
    connection: Connection,
    mut ended: oneshot::Receiver<()>,
) {
    if tokio::time::timeout(timeout, &mut ended).await.is_ok() {
        return;
    }
    // Again and again: it may just have been between two statements.
    while ended.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let _ = connection.interrupt();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A connection, on its thread.
pub(super) struct Session {
    connection: Connection,
}

impl Session {
    /// Rows of a statement, each read by `read`. All of them are read: a statement that is left
    /// in the middle would keep its view of the database.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        params: Vec<Value>,
        read: impl Fn(&Columns) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        finish(async {
            let mut rows = self
                .connection
                .query(sql, params)
                .await
                .map_err(error::of)?;
            let mut values = Vec::new();
            while let Some(row) = rows.next().await.map_err(error::of)? {
                values.push(read(&Columns { row })?);
            }
            Ok(values)
        })
    }

    /// Runs a statement once per row; gives for each how many rows it changed.
    ///
    /// Text with NUL is refused, as PostgreSQL does: libsql writes it whole and reads it back
    /// only as far as the NUL.
    pub(super) fn each(
        &self,
        sql: &str,
        rows: impl IntoIterator<Item = Vec<Value>>,
    ) -> Result<Vec<usize>, StoreError> {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(Vec::new());
        }
        finish(async {
            let statement = self.connection.prepare(sql).await.map_err(error::of)?;
            let mut changed = Vec::new();
            for row in rows {
                if row.iter().any(holds_nul) {
                    return Err(StoreError::Refused("text holds NUL".into()));
                }
                changed.push(statement.execute(row).await.map_err(error::of)?);
                statement.reset();
            }
            Ok(changed)
        })
    }

    /// Several statements without parameters.
    pub(super) fn script(&self, sql: &str) -> Result<(), StoreError> {
        finish(self.connection.execute_batch(sql))
            .map(drop)
            .map_err(error::of)
    }

    /// Runs `work` in a transaction that holds the write lock from its start.
    pub(super) fn transaction<T>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // One that a failed ROLLBACK left open.
        if !self.connection.is_autocommit() {
            self.script("ROLLBACK")?;
        }
        self.script("BEGIN IMMEDIATE")?;
        match work().and_then(|value| self.script("COMMIT").map(|()| value)) {
            Ok(value) => Ok(value),
            Err(error) => {
                // SQLite may have rolled back by itself. Where this fails, the next one tries.
                if !self.connection.is_autocommit() {
                    let _ = self.script("ROLLBACK");
                }
                Err(error)
            }
        }
    }
}

/// The columns of a row.
pub(super) struct Columns {
    row: Row,
}

impl Columns {
    fn value(&self, index: i32) -> Result<Value, StoreError> {
        self.row.get_value(index).map_err(error::of)
    }

    /// An integer; a null is an error of the schema.
    pub(super) fn integer(&self, index: i32) -> Result<i64, StoreError> {
        self.maybe_integer(index)?
            .ok_or_else(|| unexpected(index, "null"))
    }

    pub(super) fn maybe_integer(&self, index: i32) -> Result<Option<i64>, StoreError> {
        match self.value(index)? {
            Value::Null => Ok(None),
            Value::Integer(integer) => Ok(Some(integer)),
            _ => Err(unexpected(index, "no integer")),
        }
    }

    /// A partition number.
    pub(super) fn partition(&self, index: i32) -> Result<i32, StoreError> {
        i32::try_from(self.integer(index)?).map_err(|_| unexpected(index, "out of range"))
    }

    /// A time in microseconds.
    pub(super) fn time(&self, index: i32) -> Result<jiff::Timestamp, StoreError> {
        let micros = self.integer(index)?;
        // `from_microsecond` takes less: nothing of the last second of time.
        let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
        jiff::Timestamp::new(micros.div_euclid(1_000_000), nanos)
            .map_err(|_| unexpected(index, "out of range"))
    }

    /// Text; a null is an error of the schema.
    pub(super) fn text(&self, index: i32) -> Result<String, StoreError> {
        self.maybe_text(index)?
            .ok_or_else(|| unexpected(index, "null"))
    }

    pub(super) fn maybe_text(&self, index: i32) -> Result<Option<String>, StoreError> {
        match self.value(index)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            _ => Err(unexpected(index, "no text")),
        }
    }
}

fn holds_nul(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text.contains('\0'))
}

fn unexpected(index: i32, what: &str) -> StoreError {
    crate::parts::unreadable(&index.to_string(), what)
}

/// Runs a future of libsql's to its end. Those of a local database never wait for anything, but
/// nothing says so in their types.
pub(super) fn finish<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ENDLESS: &str =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    #[tokio::test]
    async fn what_takes_too_long_is_interrupted_and_what_follows_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let database = finish(libsql::Builder::new_local(path).build()).unwrap();
        let observed = Observed {
            purpose: "work",
            observer: None,
        };
        let lane = Lane::open(&database, 1_024, observed).unwrap();
        let ask = |sql: &'static str, millis| {
            lane.run_within(Duration::from_millis(millis), move |session| {
                session.rows(sql, Vec::new(), |columns| columns.integer(0))
            })
        };
        let (long, waiting) = tokio::join!(ask(ENDLESS, 300), ask("SELECT 1", 100));
        assert!(matches!(long, Err(StoreError::TooSlow)), "{long:?}");
        assert!(matches!(waiting, Err(StoreError::TooSlow)), "{waiting:?}");
        assert_eq!(ask("SELECT 1", 20_000).await.unwrap(), [1]);
    }
}
