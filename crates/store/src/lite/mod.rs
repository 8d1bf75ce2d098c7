//! libsql (SQLite): the embedded store of a single process, in WAL mode.
//!
//! One connection writes, another reads, a third reads for people, who may ask much; each works
//! on a thread of its own, because SQLite blocks. A call that is given up while it runs is still
//! carried through to its end, people's up to the query timeout.
//!
//! `synchronous=NORMAL`: a commit survives the process being killed, and power loss may cut the
//! last commits without harming the file. The embedded broker promises the same, and what is cut
//! here is read again from it, while a store that outlived its broker's last records would stand
//! at offsets that the broker gives to others.

mod campaigns;
mod error;
mod expiry;
mod lane;
mod migrate;
mod read;
mod reading;
mod write;

use crate::observe::{Observed, Observer};
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
use jiff::Timestamp;
use lane::{Lane, finish};
use postern_core::campaign::{Campaign, Change};
use postern_core::decision::{PartitionState, View};
use postern_core::ids::RequestId;
use postern_core::record::conversion::Conversion;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// KiB of the file that the connection which writes keeps in memory.
const WORK_CACHE: u32 = 64 * 1024;
/// And the one that only reads, whose cache each commit empties.
const LOOKUP_CACHE: u32 = 8 * 1024;
/// And the one for people: an export passes each page once.
const REPORTS_CACHE: u32 = 8 * 1024;

/// A store in one file.
pub struct LiteStore {
    writer: Lane,
    reader: Lane,
    reports: Lane,
    query_timeout: Duration,
}

impl LiteStore {
    /// Opens the file at `path`, or makes it. Its directory must exist. What people ask is given
    /// up after `query_timeout`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Config`] for a path that isn't UTF-8 or names no file;
    /// [`StoreError::Unavailable`] where it can't be opened.
    pub fn open(
        path: &Path,
        query_timeout: Duration,
        observer: Option<Observer>,
    ) -> Result<Self, StoreError> {
        // Kept in memory, the two connections would be two databases.
        if path.as_os_str().is_empty() || path == Path::new(":memory:") {
            return Err(StoreError::Config(
                "store.url: sqlite: must name a file".to_owned(),
            ));
        }
        // libsql sets SQLite's threading up when the first database of the process is opened;
        // going through its builder leaves that to it.
        let database = finish(libsql::Builder::new_local(path).build())
            .map_err(|why| StoreError::Config(format!("store.url: {why}")))?;
        let lane = |purpose, cache| {
            let observer = observer.clone();
            Lane::open(&database, cache, Observed { purpose, observer })
        };
        Ok(Self {
            writer: lane("work", WORK_CACHE)?,
            reader: lane("work", LOOKUP_CACHE)?,
            reports: lane("reading", REPORTS_CACHE)?,
            query_timeout,
        })
    }
}

#[async_trait]
impl Store for LiteStore {
    async fn migrate(&self) -> Result<Vec<Migrated>, StoreError> {
        self.writer.run(migrate::migrate).await
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        self.reader.run(migrate::check).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.reader
            .run(|session| session.rows("SELECT 1", Vec::new(), |_| Ok(())).map(drop))
            .await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::now())
    }

    async fn record_topics(&self, topics: &Topics) -> Result<(), StoreError> {
        let topics = topics.clone();
        self.writer
            .run(move |session| write::record_topics(session, &topics))
            .await
    }

    async fn check_topics(&self, found: &Topics) -> Result<bool, StoreError> {
        let recorded = self.reader.run(write::recorded_topics).await?;
        topics::compare(recorded.as_ref(), found)
    }

    async fn partitions(&self, partitions: &[i32]) -> Result<Vec<PartitionState>, StoreError> {
        let partitions = partitions.to_vec();
        self.reader
            .run(move |session| read::partitions(session, &partitions))
            .await
    }

    async fn create_partitions(
        &self,
        rows: &[PartitionState],
    ) -> Result<Vec<PartitionState>, StoreError> {
        let rows = rows.to_vec();
        self.writer
            .run(move |session| write::create_partitions(session, &rows))
            .await
    }

    async fn load(&self, lookup: &Lookup) -> Result<View, StoreError> {
        let lookup = lookup.clone();
        // Where the pages are in memory already: another connection's commit empties a cache.
        self.writer
            .run(move |session| read::load(session, &lookup))
            .await
    }

    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let batch = batch.clone();
        self.writer
            .run(move |session| write::commit(session, &batch))
            .await
    }

    async fn conversions_after(
        &self,
        partition: i32,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, Conversion)>, StoreError> {
        self.reader
            .run(move |session| read::conversions_after(session, partition, after, limit))
            .await
    }

    async fn rejects_position(&self, partition: i32) -> Result<Option<i64>, StoreError> {
        self.reader
            .run(move |session| read::rejects_position(session, partition))
            .await
    }

    async fn commit_rejects(
        &self,
        advance: &RejectsAdvance,
        refused: &[RefusedPostback],
    ) -> Result<(), StoreError> {
        let (advance, refused) = (*advance, refused.to_vec());
        self.writer
            .run(move |session| write::commit_rejects(session, &advance, &refused))
            .await
    }

    async fn logged(&self, request_id: RequestId) -> Result<Option<Logged>, StoreError> {
        self.reader
            .run(move |session| read::logged(session, request_id))
            .await
    }

    async fn campaign(&self, campaign_id: i64) -> Result<Option<Campaign>, StoreError> {
        self.reader
            .run(move |session| Ok(campaigns::of(session, &[campaign_id])?.pop()))
            .await
    }

    async fn campaigns(&self, after: i64, limit: i64) -> Result<Vec<Campaign>, StoreError> {
        self.reader
            .run(move |session| campaigns::page(session, after, limit))
            .await
    }

    async fn campaign_versions(
        &self,
        campaign_id: i64,
    ) -> Result<Vec<CampaignVersion>, StoreError> {
        self.reader
            .run(move |session| campaigns::versions(session, campaign_id))
            .await
    }

    async fn set_campaigns(
        &self,
        changes: &[Change],
        at: Timestamp,
    ) -> Result<Vec<Campaign>, StoreError> {
        let changes = changes.to_vec();
        self.writer
            .run(move |session| campaigns::set(session, &changes, at))
            .await
    }

    async fn publish_campaigns(&self, sink: Arc<dyn CampaignSink>) -> Result<usize, StoreError> {
        self.writer
            .run(move |session| campaigns::publish(session, parts::PUBLISHED_AT_ONCE, &*sink))
            .await
    }

    async fn add_token(&self, token: &AccessToken) -> Result<(), StoreError> {
        let token = token.clone();
        self.writer
            .run(move |session| reading::add_token(session, &token))
            .await
    }

    async fn token(&self, token_id: &str) -> Result<Option<AccessToken>, StoreError> {
        let token_id = token_id.to_owned();
        self.reader
            .run(move |session| reading::token(session, &token_id))
            .await
    }

    async fn tokens(&self) -> Result<Vec<AccessToken>, StoreError> {
        self.reader.run(reading::tokens).await
    }

    async fn revoke_token(
        &self,
        token_id: &str,
        at: Timestamp,
    ) -> Result<Option<AccessToken>, StoreError> {
        let token_id = token_id.to_owned();
        self.writer
            .run(move |session| reading::revoke_token(session, &token_id, at))
            .await
    }

    async fn advertiser_campaigns(&self, advertiser: &str) -> Result<Vec<i64>, StoreError> {
        let advertiser = advertiser.to_owned();
        self.reader
            .run(move |session| reading::campaigns_of(session, &advertiser))
            .await
    }

    async fn expire(
        &self,
        what: Expiring,
        before: Timestamp,
        most: i64,
    ) -> Result<u64, StoreError> {
        self.writer
            .run(move |session| expiry::expire(session, what, before, most))
            .await
    }

    async fn oldest(&self, what: Aging) -> Result<Option<Timestamp>, StoreError> {
        self.reader
            .run(move |session| expiry::oldest(session, what))
            .await
    }

    async fn longest_window(&self) -> Result<i64, StoreError> {
        self.reader.run(expiry::longest_window).await
    }

    async fn unmatched_before(
        &self,
        partition: i32,
        before: Timestamp,
        most: i64,
    ) -> Result<Vec<RequestId>, StoreError> {
        self.reader
            .run(move |session| expiry::unmatched_before(session, partition, before, most))
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
        let filter = filter.clone();
        self.reports
            .run_within(self.query_timeout, move |session| {
                reading::conversions(session, &filter, page, history)
            })
            .await
    }

    async fn read_statistics(
        &self,
        query: &StatisticsQuery,
    ) -> Result<Vec<StatisticsRow>, StoreError> {
        let query = query.clone();
        self.reports
            .run_within(self.query_timeout, move |session| {
                reading::statistics(session, &query)
            })
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
        let filter = filter.clone();
        self.reports
            .run_within(self.query_timeout, move |session| {
                reading::log(session, &filter, page, history)
            })
            .await
    }
}
