//! What can go wrong in a store, told apart by what the caller should do.

use thiserror::Error;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error of a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another consumer moved the partition: drop the batch, read the positions anew.
    #[error("partition {partition} was moved by another consumer")]
    Fenced {
        /// Which one.
        partition: i32,
    },
    /// The store can't be reached, is shutting down, timed out, deadlocked: try again. Whether a
    /// commit took effect isn't known; the partitions' rows tell.
    #[error("the store can't be used now")]
    Unavailable(#[source] Cause),
    /// A question that people asked took longer than is allowed: ask for less.
    #[error("the query took too long")]
    TooSlow,
    /// The store refuses the content: trying again can't help.
    #[error("the store refuses the batch")]
    Refused(#[source] Cause),
    /// A campaign isn't at the version that was to be changed.
    #[error("campaign {campaign_id} is at version {version} now: read it anew")]
    Conflict {
        /// Which one.
        campaign_id: i64,
        /// Where it is.
        version: i64,
    },
    /// What was to be published was not acknowledged; it stays to be published.
    #[error("campaigns were not published")]
    Unpublished(#[source] Cause),
    /// The schema doesn't fit this release.
    #[error("{0}")]
    Schema(String),
    /// The topics aren't those that the store was filled from.
    #[error("{0}")]
    Topics(String),
    /// The configuration can't be used.
    #[error("{0}")]
    Config(String),
}

impl StoreError {
    /// The words of [`Self::kind`].
    pub const KINDS: [&str; 9] = [
        "fenced",
        "unavailable",
        "too_slow",
        "refused",
        "conflict",
        "unpublished",
        "schema",
        "topics",
        "config",
    ];

    /// A word for what it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        let kind = match self {
            Self::Fenced { .. } => 0,
            Self::Unavailable(_) => 1,
            Self::TooSlow => 2,
            Self::Refused(_) => 3,
            Self::Conflict { .. } => 4,
            Self::Unpublished(_) => 5,
            Self::Schema(_) => 6,
            Self::Topics(_) => 7,
            Self::Config(_) => 8,
        };
        Self::KINDS[kind]
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
