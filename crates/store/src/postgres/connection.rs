//! Connections: the pool, what each session is set to, deadlines, and pipelining.

use super::error;
use crate::StoreError;
use crate::observe::{Observed, Observer, PoolState};
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, QueueMode,
    RecyclingMethod, Runtime,
};
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, NoTls, Row, Statement};

/// How PostgreSQL is reached, and how long anything may take there.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE`; further hosts and libpq's parameters
    /// as tokio-postgres reads them.
    pub url: String,
    /// How many connections are held at most; one per worker and a few for readers. As many again
    /// for what people ask.
    pub pool_size: usize,
    /// After this the server gives a question of people up; default 30 s.
    pub query_timeout: Duration,
    /// After this the server gives a statement up; default 10 s.
    pub statement_timeout: Duration,
    /// After this the server stops waiting for a lock; default 3 s, so that who waits for a
    /// process that froze asks again within its own session.
    pub lock_timeout: Duration,
    /// After this the server ends a session that does nothing inside a transaction, so that a
    /// process that froze doesn't hold its partitions' rows; default 3 s, less than the shortest
    /// `consumer.session_timeout`: the rows are free before the partitions have a new owner.
    pub idle_in_transaction_timeout: Duration,
    /// For making a connection and for waiting until one is free; default 5 s.
    pub connect_timeout: Duration,
}

impl PostgresConfig {
    /// A configuration with the defaults.
    #[must_use]
    pub fn new(url: impl Into<String>, pool_size: usize) -> Self {
        Self {
            url: url.into(),
            pool_size,
            query_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(3),
            idle_in_transaction_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// What each session is set to.
    ///
    /// Every statement here looks keys up by an index. Planned by the tables' statistics, some
    /// read the whole table instead: those that were planned while it was small and kept, and
    /// those that ask a table of a few hundred thousand rows for a thousand. So plans are made
    /// once, for any values, without sequential scans.
    ///
    /// What people ask is planned for its values, and may read much. The default price of a page
    /// is that of a spinning disk: by it a whole table is read rather than an index followed that
    /// has the rows in the wanted order.
    fn session(&self, purpose: Purpose) -> String {
        if purpose == Purpose::Reading {
            return format!(
                "SET statement_timeout = {}; SET lock_timeout = {}; \
                 SET default_transaction_read_only = on; SET random_page_cost = 1.1; \
                 SET jit = off",
                self.query_timeout.as_millis(),
                self.lock_timeout.as_millis(),
            );
        }
        format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; \
             SET idle_in_transaction_session_timeout = {}; \
             SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
             SET max_parallel_workers_per_gather = 0; SET jit = off",
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
            self.idle_in_transaction_timeout.as_millis(),
        )
    }
}

/// Without the URL: it may hold a password.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("pool_size", &self.pool_size)
            .field("query_timeout", &self.query_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field(
                "idle_in_transaction_timeout",
                &self.idle_in_transaction_timeout,
            )
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// What connections are for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The work of the roles.
    Work,
    /// What people ask.
    Reading,
}

/// The pool, and the time that a call may take.
pub(super) struct Connections {
    pool: Pool,
    deadline: Duration,
    observed: Observed,
}

impl Connections {
    pub(super) fn new(
        config: &PostgresConfig,
        purpose: Purpose,
        observer: Option<Observer>,
    ) -> Result<Self, StoreError> {
        let unusable = |why: &dyn fmt::Display| StoreError::Config(format!("store.url: {why}"));
        let mut server: Config =
            config.url.parse().map_err(
                |why: tokio_postgres::Error| match std::error::Error::source(&why) {
                    Some(detail) => unusable(&format_args!("{why}: {detail}")),
                    None => unusable(&why),
                },
            )?;
        if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
            return Err(unusable(&"it names no host"));
        }
        if server.get_ssl_mode() == SslMode::Require {
            return Err(unusable(
                &"sslmode=require can't be had, this build has no TLS for PostgreSQL",
            ));
        }
        if config.pool_size == 0 {
            return Err(StoreError::Config(
                "the store's pool needs at least one connection".to_owned(),
            ));
        }
        if server.get_application_name().is_none() {
            server.application_name("postern");
        }
        if server.get_connect_timeout().is_none() {
            server.connect_timeout(config.connect_timeout);
        }
        // The statement timeout is the server's; where the server itself is gone without a
        // word, only this and the keepalives tell.
        let statement = match purpose {
            Purpose::Work => config.statement_timeout,
            Purpose::Reading => config.query_timeout,
        };
        let deadline = statement + config.connect_timeout;
        if server.get_tcp_user_timeout().is_none() {
            server.tcp_user_timeout(deadline);
        }
        let session = config.session(purpose);
        let manager = Manager::from_config(
            server,
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(config.pool_size)
            .wait_timeout(Some(config.connect_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .runtime(Runtime::Tokio1)
            // The same one again: what it has prepared and cached is warm.
            .queue_mode(QueueMode::Lifo)
            .post_create(Hook::async_fn(move |client: &mut ClientWrapper, _| {
                let session = session.clone();
                Box::pin(async move {
                    let set = client.batch_execute(&session).await;
                    set.map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|why| StoreError::Config(why.to_string()))?;
        let purpose = match purpose {
            Purpose::Work => "work",
            Purpose::Reading => "reading",
        };
        Ok(Self {
            pool,
            deadline,
            observed: Observed { purpose, observer },
        })
    }

    pub(super) async fn lease(&self) -> Result<Lease, StoreError> {
        let object = self.pool.get().await.map_err(error::of_pool)?;
        Ok(Lease {
            object: Some(object),
        })
    }

    /// Runs `work` on a connection, within the deadline. The connection goes back to the pool
    /// only after success: what failed, or was given up, may have left a transaction open or an
    /// answer on its way, and closing the connection ends both.
    pub(super) async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&Lease) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let run = async {
            let lease = self.lease().await?;
            let value = work(&lease).await?;
            lease.give_back();
            Ok(value)
        };
        let run = async {
            match tokio::time::timeout(self.deadline, run).await {
                Ok(result) => result,
                Err(_) => Err(StoreError::Unavailable(
                    format!("no answer from PostgreSQL within {:?}", self.deadline).into(),
                )),
            }
        };
        self.observed.call(run, || Some(self.state())).await
    }

    fn state(&self) -> PoolState {
        let status = self.pool.status();
        PoolState {
            used: status.size.saturating_sub(status.available),
            idle: status.available,
            waiting: status.waiting,
        }
    }
}

/// A connection on loan. Dropped, it is closed, which ends whatever it was in the middle of;
/// only [`Lease::give_back`] returns it to the pool.
pub(super) struct Lease {
    object: Option<Object>,
}

impl Lease {
    pub(super) fn give_back(mut self) {
        drop(self.object.take());
    }

    /// Rows of a cached statement.
    pub(super) async fn rows(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepare_cached(sql).await.map_err(error::of)?;
        self.query(&statement, params).await.map_err(error::of)
    }
}

impl Deref for Lease {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        match &self.object {
            Some(object) => object,
            None => unreachable!("a lease holds its connection until it is given back"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

type Step<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// Statements that are sent one after the other without waiting for answers, in order.
pub(super) struct Flight<'a> {
    lease: &'a Lease,
    steps: Vec<Step<'a>>,
}

impl<'a> Flight<'a> {
    pub(super) fn new(lease: &'a Lease) -> Self {
        Self {
            lease,
            steps: Vec::new(),
        }
    }

    /// Adds a statement that is already prepared: preparing it in flight would let later ones
    /// overtake it.
    pub(super) fn push(&mut self, statement: Statement, params: Vec<&'a (dyn ToSql + Sync)>) {
        let lease = self.lease;
        self.steps.push(Box::pin(async move {
            let done = lease.execute(&statement, &params).await;
            done.map(drop).map_err(error::of)
        }));
    }

    /// Adds a statement without parameters, such as `COMMIT`.
    pub(super) fn push_plain(&mut self, sql: &'static str) {
        let lease = self.lease;
        self.steps.push(Box::pin(async move {
            lease.batch_execute(sql).await.map_err(error::of)
        }));
    }

    /// Sends all, then waits for all. The first error, in order, is what comes back.
    pub(super) async fn land(self) -> Result<(), StoreError> {
        in_order(self.steps).await
    }
}

/// Runs the steps together, each polled after those before it. The first error in order is what
/// comes back: later ones are its consequences, whichever is noticed first. A step that fails
/// keeps those after it from being polled, so that a `COMMIT` at the end is never sent where a
/// statement before it couldn't be.
async fn in_order(mut steps: Vec<Step<'_>>) -> Result<(), StoreError> {
    let mut done = vec![false; steps.len()];
    let mut failed: Option<StoreError> = None;
    poll_fn(|context| {
        let mut waiting = false;
        for (index, step) in steps.iter_mut().enumerate() {
            if done[index] {
                continue;
            }
            match step.as_mut().poll(context) {
                Poll::Pending => waiting = true,
                Poll::Ready(Ok(())) => done[index] = true,
                Poll::Ready(Err(error)) if waiting => {
                    failed = Some(error);
                    // Only those before it are of interest now.
                    done[index..].fill(true);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        if waiting {
            return Poll::Pending;
        }
        Poll::Ready(failed.take().map_or(Ok(()), Err))
    })
    .await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::StoreError;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_url_is_never_shown() {
        let config = PostgresConfig::new("postgres://postern:s3cret@db/postern", 2);
        assert!(!format!("{config:?}").contains("s3cret"));
        for url in [
            "postgres://postern:s3cret@db:port/postern",
            "postgres://postern:s3cret@db/postern?sslmode=require",
            "postgres://postern:s3cret@/postern?colour=s3cret",
        ] {
            let error = Connections::new(&PostgresConfig::new(url, 2), Purpose::Work, None)
                .err()
                .unwrap();
            assert!(matches!(error, StoreError::Config(_)), "{url}");
            assert!(!error.to_string().contains("postern:s3cret"), "{error}");
        }
    }

    /// Fails, or not, when it is polled for the `ready`th time.
    fn step<'a>(
        ready: usize,
        error: Option<&'static str>,
        polls: &'a AtomicUsize,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'a {
        let mut count = 0;
        poll_fn(move |context| {
            polls.fetch_add(1, Ordering::Relaxed);
            count += 1;
            if count < ready {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(error.map_or(Ok(()), |why| Err(StoreError::Topics(why.to_owned()))))
        })
    }

    #[tokio::test]
    async fn the_first_error_in_order_is_told() {
        let first = async |steps: [(usize, Option<&'static str>); 3]| {
            let polls: [_; 3] = std::array::from_fn(|_| AtomicUsize::new(0));
            let futures = steps.iter().zip(&polls);
            let futures = futures.map(|((ready, error), polls)| step(*ready, *error, polls));
            let error = in_order(futures.map(|one| Box::pin(one) as Step<'_>).collect()).await;
            (
                error.map_err(|error| error.to_string()),
                polls[2].load(Ordering::Relaxed),
            )
        };
        assert_eq!(first([(3, None), (1, None), (2, None)]).await, (Ok(()), 2));
        // Noticed in another order.
        let found = first([(3, Some("cause")), (1, Some("consequence")), (1, None)]).await;
        assert_eq!(found, (Err("cause".to_owned()), 0));
        let found = first([(3, None), (1, Some("cause")), (1, Some("consequence"))]).await;
        assert_eq!(found, (Err("cause".to_owned()), 0));
        let found = first([(1, Some("cause")), (1, None), (1, None)]).await;
        assert_eq!(found, (Err("cause".to_owned()), 0));
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_no_configuration_error() {
        // Port 1 on loopback: nobody listens there.
        let config = PostgresConfig::new("postgres://postern@127.0.0.1:1/postern", 2);
        let connections = Connections::new(&config, Purpose::Work, None).unwrap();
        let error = connections.lease().await.err().unwrap();
        assert!(error.is_retriable(), "{error:?}");
    }
}
