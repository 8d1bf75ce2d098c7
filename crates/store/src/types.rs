//! What the trait takes and gives.

use async_trait::async_trait;
use jiff::Timestamp;
use postern_core::campaign::{Campaign, Settings};
use postern_core::decision::{Known, PartitionState, Writes};
use postern_core::ids::{ClickId, RequestId};
use postern_core::record::postback::Origin;
use postern_core::request::Warning;

/// A migration that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Its number, ascending from 1.
    pub number: i32,
    /// Its name.
    pub name: &'static str,
}

/// Rows that get older.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Aging {
    /// Clicks, by their own time.
    Clicks,
    /// The postback log.
    Log,
    /// Postbacks that wait for their click.
    Unmatched,
}

/// Rows that go when they are old enough.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Expiring {
    /// Clicks, by the time of the click.
    Clicks,
    /// The postback log with its later steps, by the time at which a postback was received.
    Log,
}

/// The topics that a store belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Partition count of clicks and postbacks alike.
    pub partitions: i32,
    /// Kafka's id of the clicks topic; `None` where the broker doesn't tell ids.
    pub clicks_id: Option<String>,
    /// Kafka's id of the postbacks topic.
    pub postbacks_id: Option<String>,
}

/// What a batch needs to know.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// Request ids of its postbacks: fills `View::known`, with the latest step, and `refused`.
    pub request_ids: Vec<RequestId>,
    /// Clickids of its postbacks, and of clicks for which any may wait: fills `clicks`, and
    /// `conversions` in the order of their numbers, and `campaigns` that these name.
    pub clickids: Vec<ClickId>,
    /// Clickids of its other clicks: fills `clicks`, and `campaigns` that these name.
    pub fresh: Vec<ClickId>,
    /// Campaigns that the batch's clicks name: fills `campaigns`.
    pub campaigns: Vec<i64>,
    /// Clickids of its clicks and of its replayed postbacks: fills `unmatched`. Left empty where nothing waits.
    pub arrived: Vec<ClickId>,
    /// Clickids of its postbacks: fills `unmatched_counts`. Left empty where nothing waits.
    pub waiting: Vec<ClickId>,
}

/// How a partition's row moves. `next.version` is ignored: the engine counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The row as the worker believes it to be.
    pub expected: PartitionState,
    /// The row as it shall be.
    pub next: PartitionState,
}

/// One transaction's worth.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The partitions concerned; the engine sorts them before it locks.
    pub advances: Vec<Advance>,
    /// What is written.
    pub writes: Writes,
    /// Which rows of the totals are added to. Writers with the same one are no worse than slow:
    /// they wait for each other's transactions where they write of the same campaign.
    pub slot: i32,
}

/// How a rejects partition moves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RejectsAdvance {
    /// Partition of the rejects topic.
    pub partition: i32,
    /// The position as the worker believes it to be; `None` for the first time.
    pub expected: Option<i64>,
    /// The position as it shall be.
    pub next: i64,
}

/// A postback that the ingress refused, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPostback {
    /// Its request id.
    pub request_id: RequestId,
    /// When it was received.
    pub received_at: Timestamp,
    /// The error code.
    pub reason: String,
    /// The sentence that the caller got.
    pub message: String,
    /// Who called, and what was sent.
    pub origin: Origin,
}

/// What the log says of a postback, and what its answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// When it was received.
    pub received_at: Timestamp,
    /// What became of it.
    pub state: LoggedState,
}

/// What became of a logged postback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedState {
    /// It was decided.
    Decided {
        /// Its click.
        clickid: ClickId,
        /// The warnings that its answer carried.
        warnings: Vec<Warning>,
        /// The outcome after its latest step.
        known: Known,
    },
    /// The ingress refused it.
    Refused {
        /// The error code.
        reason: String,
        /// The sentence that the caller got.
        message: String,
    },
}

/// Hears of campaigns that are to be published.
#[async_trait]
pub trait CampaignSink: Send + Sync + 'static {
    /// Publishes all of them, and comes back when all are acknowledged. Their rows are locked
    /// meanwhile: it must not take longer than two seconds.
    async fn publish(
        &self,
        campaigns: &[Campaign],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// What a version of a campaign's settings said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignVersion {
    /// The version.
    pub version: i64,
    /// When it was set.
    pub changed_at: Timestamp,
    /// What was set.
    pub settings: Settings,
    /// Whether postbacks had to be signed.
    pub secret_set: bool,
}

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Everything.
    Admin,
    /// Reading what belongs to the campaigns whose settings name this advertiser.
    Advertiser(String),
    /// Reading what belongs to these campaigns.
    Campaigns(Vec<i64>),
}

impl Grant {
    /// The word that the table uses.
    #[must_use]
    pub fn role(&self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Advertiser(_) => "advertiser",
            Self::Campaigns(_) => "campaigns",
        }
    }
}

/// An access token, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// Names it without telling it.
    pub token_id: String,
    /// SHA-256 of the token, in hexadecimal.
    pub digest: String,
    /// What it allows.
    pub grant: Grant,
    /// Whose it is, for people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
    /// Since when it is worth nothing.
    pub revoked_at: Option<Timestamp>,
}
