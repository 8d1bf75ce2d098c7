//! PostgreSQL: the store of an installation with more than one process.
//!
//! Every statement works on a set: arrays go in, whatever the batch's size. A batch costs three
//! round trips: one to read, one that opens the transaction and locks the partitions' rows, one
//! that writes and commits.

mod campaigns;
mod connection;
mod error;
mod expiry;
mod migrate;
mod read;
mod reading;
mod write;

pub use connection::PostgresConfig;

use crate::observe::{Observation, Observer};
use crate::parts;
use crate::reading::{
    ConversionFilter, LogFilter, Page, ShownConversion, ShownPostback, StatisticsQuery,
    StatisticsRow,
};
use crate::topics;
use crate::{
    AccessToken, Aging, Batch, CampaignSink, CampaignVersion, Expiring, Logged, Lookup, Migrated,
    RefusedPostback, RejectsAdvance, Store, StoreError, Topics,
};
use async_trait::async_trait;
use connection::{Connections, Lease, Purpose};
use jiff::Timestamp;
use postern_core::campaign::{Campaign, Change};
use postern_core::decision::{PartitionState, View};
use postern_core::ids::RequestId;
use postern_core::record::conversion::Conversion;
use std::sync::Arc;

/// A pool of connections. Cheap to make: nothing is contacted before the first call.
pub struct PostgresStore {
    connections: Connections,
    /// For what people ask; none is made before the first question.
    reading: Connections,
    config: PostgresConfig,
    observer: Option<Observer>,
}

impl PostgresStore {
    /// A store at `config.url`. Doesn't contact the server, and doesn't fail because it is away.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StoreError::Config`] for a URL that can't be used.
    pub fn connect(config: PostgresConfig, observer: Option<Observer>) -> Result<Self, StoreError> {
        Ok(Self {
            connections: Connections::new(&config, Purpose::Work, observer.clone())?,
            reading: Connections::new(&config, Purpose::Reading, observer.clone())?,
            config,
            observer,
        })
    }

    async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&Lease) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.connections.run(work).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn apart(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let config = PostgresConfig {
            pool_size: 1,
            ..self.config.clone()
        };
        // One connection is no pool to be told about.
        let observer = self.observer.clone().map(|tell| -> Observer {
            Arc::new(move |call| {
                tell(&Observation {
                    pool: None,
                    ..*call
                })
            })
        });
        Ok(Some(Arc::new(Self::connect(config, observer)?)))
    }

    async fn migrate(&self) -> Result<Vec<Migrated>, StoreError> {
        // Without the deadline: a migration may take its time.
        let lease = self.connections.lease().await?;
        migrate::migrate(&lease).await
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        self.run(async |lease| migrate::check(lease).await).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.run(async |lease| lease.batch_execute("SELECT 1").await.map_err(error::of))
            .await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.run(async |lease| {
            let rows = lease.rows("SELECT clock_timestamp()", &[]).await?;
            let row = rows
                .first()
                .ok_or_else(|| StoreError::Unavailable("no row for clock_timestamp()".into()))?;
            read::get(row, 0)
        })
        .await
    }

    async fn record_topics(&self, topics: &Topics) -> Result<(), StoreError> {
        self.run(async |lease| write::record_topics(lease, topics).await)
            .await
    }

    async fn check_topics(&self, found: &Topics) -> Result<bool, StoreError> {
        let recorded = self
            .run(async |lease| write::recorded_topics(lease).await)
            .await?;
        topics::compare(recorded.as_ref(), found)
    }

    async fn partitions(&self, partitions: &[i32]) -> Result<Vec<PartitionState>, StoreError> {
        self.run(async |lease| read::partitions(lease, partitions).await)
            .await
    }

    async fn create_partitions(
        &self,
        rows: &[PartitionState],
    ) -> Result<Vec<PartitionState>, StoreError> {
        self.run(async |lease| write::create_partitions(lease, rows).await)
            .await
    }

    async fn load(&self, lookup: &Lookup) -> Result<View, StoreError> {
        self.run(async |lease| read::load(lease, lookup).await)
            .await
    }

    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.run(async |lease| write::commit(lease, batch).await)
            .await
    }

    async fn conversions_after(
        &self,
        partition: i32,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, Conversion)>, StoreError> {
        self.run(async |lease| read::conversions_after(lease, partition, after, limit).await)
            .await
    }

    async fn rejects_position(&self, partition: i32) -> Result<Option<i64>, StoreError> {
        self.run(async |lease| read::rejects_position(lease, partition).await)
            .await
    }

    async fn commit_rejects(
        &self,
        advance: &RejectsAdvance,
        refused: &[RefusedPostback],
    ) -> Result<(), StoreError> {
        self.run(async |lease| write::commit_rejects(lease, advance, refused).await)
            .await
    }

    async fn logged(&self, request_id: RequestId) -> Result<Option<Logged>, StoreError> {
        self.run(async |lease| read::logged(lease, request_id).await)
            .await
    }

    async fn campaign(&self, campaign_id: i64) -> Result<Option<Campaign>, StoreError> {
        self.run(async |lease| Ok(campaigns::of(lease, &[campaign_id]).await?.pop()))
            .await
    }

    async fn campaigns(&self, after: i64, limit: i64) -> Result<Vec<Campaign>, StoreError> {
        self.run(async |lease| campaigns::page(lease, after, limit).await)
            .await
    }

    async fn campaign_versions(
        &self,
        campaign_id: i64,
    ) -> Result<Vec<CampaignVersion>, StoreError> {
        self.run(async |lease| campaigns::versions(lease, campaign_id).await)
            .await
    }

    async fn set_campaigns(
        &self,
        changes: &[Change],
        at: Timestamp,
    ) -> Result<Vec<Campaign>, StoreError> {
        self.run(async |lease| campaigns::set(lease, changes, at).await)
            .await
    }

    async fn publish_campaigns(&self, sink: Arc<dyn CampaignSink>) -> Result<usize, StoreError> {
        self.run(async |lease| campaigns::publish(lease, parts::PUBLISHED_AT_ONCE, &*sink).await)
            .await
    }

    async fn add_token(&self, token: &AccessToken) -> Result<(), StoreError> {
        self.run(async |lease| reading::add_token(lease, token).await)
            .await
    }

    async fn token(&self, token_id: &str) -> Result<Option<AccessToken>, StoreError> {
        self.run(async |lease| reading::token(lease, token_id).await)
            .await
    }

    async fn tokens(&self) -> Result<Vec<AccessToken>, StoreError> {
        self.run(async |lease| reading::tokens(lease).await).await
    }

    async fn revoke_token(
        &self,
        token_id: &str,
        at: Timestamp,
    ) -> Result<Option<AccessToken>, StoreError> {
        self.run(async |lease| reading::revoke_token(lease, token_id, at).await)
            .await
    }

    async fn advertiser_campaigns(&self, advertiser: &str) -> Result<Vec<i64>, StoreError> {
        self.run(async |lease| reading::campaigns_of(lease, advertiser).await)
            .await
    }

    async fn expire(
        &self,
        what: Expiring,
        before: Timestamp,
        most: i64,
    ) -> Result<u64, StoreError> {
        self.run(async |lease| expiry::expire(lease, what, before, most).await)
            .await
    }

    async fn oldest(&self, what: Aging) -> Result<Option<Timestamp>, StoreError> {
        self.run(async |lease| expiry::oldest(lease, what).await)
            .await
    }

    async fn longest_window(&self) -> Result<i64, StoreError> {
        self.run(async |lease| expiry::longest_window(lease).await)
            .await
    }

    async fn unmatched_before(
        &self,
        partition: i32,
        before: Timestamp,
        most: i64,
    ) -> Result<Vec<RequestId>, StoreError> {
        self.run(async |lease| expiry::unmatched_before(lease, partition, before, most).await)
            .await
    }

    async fn read_conversions(
        &self,
        filter: &ConversionFilter,
        page: Page,
        history: bool,
    ) -> Result<Vec<ShownConversion>, StoreError> {
        if filter.campaigns.is_none() {
            return Ok(Vec::new());
        }
        self.reading
            .run(async |lease| reading::conversions(lease, filter, page, history).await)
            .await
    }

    async fn read_statistics(
        &self,
        query: &StatisticsQuery,
    ) -> Result<Vec<StatisticsRow>, StoreError> {
        self.reading
            .run(async |lease| reading::statistics(lease, query).await)
            .await
    }

    async fn read_log(
        &self,
        filter: &LogFilter,
        page: Page,
        history: bool,
    ) -> Result<Vec<ShownPostback>, StoreError> {
        if filter.campaigns.is_none() {
            return Ok(Vec::new());
        }
        self.reading
            .run(async |lease| reading::log(lease, filter, page, history).await)
            .await
    }
}
