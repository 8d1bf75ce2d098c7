//! What is old enough goes: clicks and the postback log, a few rows at a time, and postbacks that
//! waited for their click in vain.
//!
//! Clicks and the log are nobody's own, so any process may remove them, beside the work. What
//! waits is counted in its partition's row, which only the partition's owner moves: its worker
//! removes them, by a commit like any other.

use crate::Dropped;
use crate::metrics::ConsumerMetrics;
use crate::worker::Worker;
use jiff::{SignedDuration, Timestamp};
use postern_core::decision::Writes;
use postern_runtime::telemetry::chain;
use postern_store::{Advance, Aging, Expiring, Store, StoreError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Rows of one transaction.
const AT_ONCE: i64 = 1000;
/// Between two transactions: consumers have the store for themselves meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two passes.
const PASS: Duration = Duration::from_secs(60);
/// Between two looks of a worker at what waits in its partitions.
const LOOK: Duration = Duration::from_secs(10);

/// How long rows are kept.
#[derive(Copy, Clone, Debug)]
pub struct Retention {
    /// Clicks, unless a campaign's attribution window is longer.
    pub clicks: Duration,
    /// The postback log.
    pub log: Duration,
    /// Postbacks that wait for their click.
    pub unmatched: Duration,
}

/// Removes old clicks and old rows of the log.
pub struct Expiry {
    store: Arc<dyn Store>,
    retention: Retention,
    metrics: ConsumerMetrics,
}

impl Expiry {
    /// Makes one; nothing is removed before [`Self::run`].
    #[must_use]
    pub fn new(store: Arc<dyn Store>, retention: Retention, metrics: ConsumerMetrics) -> Self {
        Self {
            store,
            retention,
            metrics,
        }
    }

    /// Removes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            for what in [Expiring::Clicks, Expiring::Log] {
                let removed = tokio::select! {
                    () = stop.cancelled() => return,
                    removed = self.pass(what) => removed,
                };
                if let Err(error) = removed {
                    tracing::warn!(
                        kind = word(what),
                        why = chain(&error),
                        "old rows can't be removed now; trying again in a minute"
                    );
                }
            }
            if let Err(error) = self.look("unmatched", Aging::Unmatched).await {
                tracing::debug!(why = chain(&error), "the age of what waits isn't known now");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PASS) => {}
            }
        }
    }

    async fn pass(&self, what: Expiring) -> Result<(), StoreError> {
        let kept = match what {
            Expiring::Log => self.retention.log,
            // One campaign's window is no reason to look at each click's campaign.
            Expiring::Clicks => {
                let longest = self.store.longest_window().await?;
                let longest = Duration::from_secs(u64::try_from(longest).unwrap_or(0));
                self.retention.clicks.max(longest)
            }
        };
        let before = ago(Timestamp::now(), kept);
        let kind = word(what);
        loop {
            let removed = self.store.expire(what, before, AT_ONCE).await?;
            self.metrics
                .expired
                .with_label_values(&[kind])
                .inc_by(removed);
            if removed == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let aging = match what {
            Expiring::Clicks => Aging::Clicks,
            Expiring::Log => Aging::Log,
        };
        self.look(kind, aging).await
    }

    /// Tells how old the oldest is.
    async fn look(&self, kind: &str, what: Aging) -> Result<(), StoreError> {
        let oldest = self.store.oldest(what).await?;
        let age = oldest.map_or(0.0, |oldest| {
            Timestamp::now().duration_since(oldest).as_secs_f64()
        });
        self.metrics.oldest.with_label_values(&[kind]).set(age);
        Ok(())
    }
}

fn word(what: Expiring) -> &'static str {
    match what {
        Expiring::Clicks => "clicks",
        Expiring::Log => "log",
    }
}

/// A time before which is long ago.
fn ago(now: Timestamp, kept: Duration) -> Timestamp {
    let kept = SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX);
    now.saturating_sub(kept).unwrap_or(Timestamp::MIN)
}

impl Worker {
    /// Lets go of what has waited for too long, a few of each partition, now and then.
    pub(crate) fn expire_unmatched(&mut self) -> Result<(), Dropped> {
        if self.last_expiry.elapsed() < LOOK {
            return Ok(());
        }
        self.last_expiry = Instant::now();
        let before = ago(Timestamp::now(), self.config.retention.unmatched);
        let waiting: Vec<_> = self.ownership.rows.values().copied().collect();
        for row in waiting {
            if row.unmatched == 0 || self.ownership.stopped.contains_key(&row.partition) {
                continue;
            }
            let store = self.store.clone();
            let old = store.unmatched_before(row.partition, before, AT_ONCE);
            let old = self.calls.run(old)?;
            if old.is_empty() {
                continue;
            }
            let removed = old.len() as u64;
            let mut next = row;
            next.unmatched -= i64::try_from(old.len()).unwrap_or(0);
            let mut advances = vec![Advance {
                expected: row,
                next,
            }];
            self.stamp(&mut advances);
            let writes = Writes {
                unmatched_removed: old,
                ..Writes::default()
            };
            self.commit(advances, writes)?;
            let kind = &["unmatched"];
            self.metrics.expired.with_label_values(kind).inc_by(removed);
            // There may be more.
            self.last_expiry = Instant::now().checked_sub(LOOK).unwrap_or(self.last_expiry);
        }
        Ok(())
    }
}
