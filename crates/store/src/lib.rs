//! The store: the only room that names a SQL driver. One trait, two engines, migrations.
//!
//! What enters is what the decision wants written; what leaves is what it needs to know. All
//! effects of a batch are one transaction that first locks and compares the partitions' rows,
//! so a consumer that lost its partitions can't commit.

mod error;
mod expiry;
mod fence;
pub mod lite;
mod migrations;
mod observe;
mod open;
mod parts;
pub mod postgres;
pub mod reading;
mod statistics;
mod tokens;
mod topics;
mod types;

pub use error::StoreError;
pub use observe::{Observation, Observer, PoolState};
pub use open::{StoreOptions, open, open_observed};
pub use types::{
    AccessToken, Advance, Aging, Batch, CampaignSink, CampaignVersion, Expiring, Grant, Logged,
    LoggedState, Lookup, Migrated, RefusedPostback, RejectsAdvance, Topics,
};

use async_trait::async_trait;
use jiff::Timestamp;
use postern_core::campaign::{Campaign, Change};
use postern_core::decision::{PartitionState, View};
use postern_core::ids::RequestId;
use postern_core::record::conversion::Conversion;
use reading::{
    ConversionFilter, LogFilter, Page, ShownConversion, ShownPostback, StatisticsQuery,
    StatisticsRow,
};
use std::sync::Arc;

/// What the roles ask of a store. Times are bounded by the engine's statement timeout.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The same store with connections of its own, for a thread that runs its calls by itself;
    /// `None` where any thread may make them.
    ///
    /// # Errors
    ///
    /// Those of opening it.
    fn apart(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        Ok(None)
    }

    /// Brings the schema up to this release, one migration per transaction, under a lock, so
    /// that two at once don't collide. Gives what was applied now.
    async fn migrate(&self) -> Result<Vec<Migrated>, StoreError>;

    /// Fails with [`StoreError::Schema`] where the schema is older or newer than this release.
    async fn check_schema(&self) -> Result<(), StoreError>;

    /// A cheap round trip, for readiness.
    async fn ping(&self) -> Result<(), StoreError>;

    /// The store's clock; our own where the store is a file.
    async fn now(&self) -> Result<Timestamp, StoreError>;

    /// Records the topics' partition count and ids at first use; afterwards compares.
    /// [`StoreError::Topics`] says what differs.
    async fn record_topics(&self, topics: &Topics) -> Result<(), StoreError>;

    /// As [`Self::record_topics`], but records nothing; gives whether topics were recorded.
    async fn check_topics(&self, topics: &Topics) -> Result<bool, StoreError>;

    /// Rows of these partitions; those that don't exist are left out. Ascending.
    async fn partitions(&self, partitions: &[i32]) -> Result<Vec<PartitionState>, StoreError>;

    /// Creates rows that don't exist yet and gives the rows as they then stand. Ascending.
    async fn create_partitions(
        &self,
        rows: &[PartitionState],
    ) -> Result<Vec<PartitionState>, StoreError>;

    /// What the store knows of a batch. Read outside the commit's transaction: only the owner of
    /// a partition writes its keys, and the commit proves the ownership.
    async fn load(&self, lookup: &Lookup) -> Result<View, StoreError>;

    /// One transaction: locks the partitions' rows in ascending order, compares each with
    /// `expected` ([`StoreError::Fenced`] where one differs, nothing is written), writes all,
    /// moves the rows to `next` with `version` one higher.
    async fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Up to `limit` conversions, and changes of their statuses, of a partition numbered above
    /// `after`, ascending, each with its number: those whose events may not have been published.
    async fn conversions_after(
        &self,
        partition: i32,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, Conversion)>, StoreError>;

    /// Next offset of a rejects partition; `None` where it was never read.
    async fn rejects_position(&self, partition: i32) -> Result<Option<i64>, StoreError>;

    /// Writes refused postbacks into the log and moves the position, in one transaction that
    /// compares the old one first ([`StoreError::Fenced`]). Known request ids change nothing.
    async fn commit_rejects(
        &self,
        advance: &RejectsAdvance,
        refused: &[RefusedPostback],
    ) -> Result<(), StoreError>;

    /// What the log says of a postback, after its latest step.
    async fn logged(&self, request_id: RequestId) -> Result<Option<Logged>, StoreError>;

    /// A campaign; `None` where nobody set it.
    async fn campaign(&self, campaign_id: i64) -> Result<Option<Campaign>, StoreError>;

    /// Up to `limit` campaigns with ids above `after`, ascending.
    async fn campaigns(&self, after: i64, limit: i64) -> Result<Vec<Campaign>, StoreError>;

    /// What the versions of a campaign said, the newest first.
    async fn campaign_versions(&self, campaign_id: i64)
    -> Result<Vec<CampaignVersion>, StoreError>;

    /// Sets campaigns, all or none: each gets a new version, unless it is as wanted already.
    /// [`StoreError::Conflict`] where one isn't at the version that its change expects. Gives
    /// them as they then stand, in the order of their ids. `at` goes into the history.
    async fn set_campaigns(
        &self,
        changes: &[Change],
        at: Timestamp,
    ) -> Result<Vec<Campaign>, StoreError>;

    /// Hands campaigns whose version isn't published to `sink`, their rows locked, and notes that
    /// they are; gives how many. Two at once don't hand over the same one, and none is handed
    /// over at an older version after a newer one. [`StoreError::Unpublished`] where the sink
    /// fails: they stay to be published.
    async fn publish_campaigns(&self, sink: Arc<dyn CampaignSink>) -> Result<usize, StoreError>;

    /// Keeps an access token.
    async fn add_token(&self, token: &AccessToken) -> Result<(), StoreError>;

    /// The token with this id, also where it is worth nothing any more.
    async fn token(&self, token_id: &str) -> Result<Option<AccessToken>, StoreError>;

    /// All tokens, in the order in which they were made.
    async fn tokens(&self) -> Result<Vec<AccessToken>, StoreError>;

    /// Makes a token worth nothing from `at` on; gives it as it then stands. One that was revoked
    /// before stays as it is.
    async fn revoke_token(
        &self,
        token_id: &str,
        at: Timestamp,
    ) -> Result<Option<AccessToken>, StoreError>;

    /// The campaigns whose settings name an advertiser, ascending.
    async fn advertiser_campaigns(&self, advertiser: &str) -> Result<Vec<i64>, StoreError>;

    /// Removes up to `most` rows older than `before`, the oldest first, in one transaction that
    /// waits for nobody; gives how many.
    async fn expire(&self, what: Expiring, before: Timestamp, most: i64)
    -> Result<u64, StoreError>;

    /// The time of the oldest row; `None` where there is none.
    async fn oldest(&self, what: Aging) -> Result<Option<Timestamp>, StoreError>;

    /// The longest attribution window of all campaigns, in seconds; 0 where none has one.
    async fn longest_window(&self) -> Result<i64, StoreError>;

    /// Up to `most` postbacks of a partition that have waited for their click since before
    /// `before`. They are removed by a commit, which counts them.
    async fn unmatched_before(
        &self,
        partition: i32,
        before: Timestamp,
        most: i64,
    ) -> Result<Vec<RequestId>, StoreError>;

    /// A page of conversions, the newest first; with `history`, what was said of their statuses.
    ///
    /// This and the two below read for people, beside the work: on connections of their own, each
    /// within the query timeout ([`StoreError::TooSlow`]).
    async fn read_conversions(
        &self,
        filter: &ConversionFilter,
        page: Page,
        history: bool,
    ) -> Result<Vec<ShownConversion>, StoreError>;

    /// Clicks and conversions summed, as of one moment, in no order.
    async fn read_statistics(
        &self,
        query: &StatisticsQuery,
    ) -> Result<Vec<StatisticsRow>, StoreError>;

    /// A page of the postback log, the newest first; with `history`, the later steps.
    async fn read_log(
        &self,
        filter: &LogFilter,
        page: Page,
        history: bool,
    ) -> Result<Vec<ShownPostback>, StoreError>;
}
