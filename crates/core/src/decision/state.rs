//! What the decision reads and writes.

use crate::campaign::{Campaign, Dedupe};
use crate::currency::Currency;
use crate::ids::{ClickId, RequestId};
use crate::money::Revenue;
use crate::record::click::Click;
use crate::record::conversion::Conversion;
use crate::record::postback::Postback;
use crate::record::verdict::Outcome;
use crate::status::Status;
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Where a partition stands: the row that every transaction locks, compares and moves on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The partition number, of clicks and postbacks alike.
    pub partition: i32,
    /// Counts the commits; what tells a consumer that lost its partition from its owner.
    pub version: i64,
    /// The next offset to read from the clicks topic.
    pub clicks: i64,
    /// The next offset to read from the postbacks topic.
    pub postbacks: i64,
    /// The number of the last conversion, or change of one's status, stored for this partition.
    pub sequence: i64,
    /// The number of the last of them whose event was published.
    pub published: i64,
    /// How many postbacks wait for their click.
    pub unmatched: i64,
}

/// A click and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedClick {
    /// Partition that it was read from.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The click.
    pub click: Click,
}

/// A postback and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPostback {
    /// Its offset.
    pub offset: i64,
    /// The postback.
    pub postback: Postback,
}

/// A postback that waits for its click.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// Its partition.
    pub partition: i32,
    /// Its offset: the order in which a late click decides.
    pub offset: i64,
    /// The postback, whole.
    pub postback: Postback,
}

/// A stored conversion, as far as later postbacks of its click need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The conversion.
    pub conversion_id: RequestId,
    /// Its campaign.
    pub campaign_id: i64,
    /// Its event, empty for none.
    pub event_key: String,
    /// Its external id, empty for none.
    pub external_key: String,
    /// The policy that it was decided by.
    pub dedupe: Dedupe,
    /// Its revenue.
    pub revenue: Revenue,
    /// Its currency.
    pub currency: Currency,
    /// Its site, source and time: where it counts.
    pub site_id: String,
    /// See `site_id`.
    pub source: String,
    /// See `site_id`.
    pub created_at: Timestamp,
    /// Its present status.
    pub status: Status,
    /// When the postback was received that said so last.
    pub status_at: Timestamp,
    /// That postback.
    pub status_id: RequestId,
}

impl Stored {
    /// Whether a postback with this event and external id is the same conversion under `dedupe`.
    ///
    /// What a conversion doesn't name, and the policy that it was decided by didn't ask for,
    /// isn't known of it: it may be any. So a change of the policy never pays twice.
    #[must_use]
    pub fn is_same(&self, dedupe: Dedupe, event: &str, external: &str) -> bool {
        let external_is = self.external_key == external
            || (self.external_key.is_empty() && self.dedupe == Dedupe::Click);
        let event_is =
            self.event_key == event || (self.event_key.is_empty() && self.dedupe != Dedupe::Event);
        match dedupe {
            Dedupe::Click => true,
            Dedupe::Txid => external_is,
            Dedupe::Event => external_is && event_is,
        }
    }

    /// The outcome of a postback that this conversion makes a duplicate.
    #[must_use]
    pub fn as_duplicate(&self) -> Outcome {
        Outcome::Duplicate {
            campaign_id: self.campaign_id,
            revenue: self.revenue,
            currency: self.currency.clone(),
        }
    }

    /// The outcome of a postback that gave it its present status.
    #[must_use]
    pub fn as_updated(&self) -> Outcome {
        Outcome::Updated {
            campaign_id: self.campaign_id,
            revenue: self.revenue,
            currency: self.currency.clone(),
            status: self.status,
        }
    }
}

impl From<&Conversion> for Stored {
    fn from(conversion: &Conversion) -> Self {
        Self {
            conversion_id: conversion.conversion_id,
            campaign_id: conversion.campaign_id,
            event_key: conversion.event.clone(),
            external_key: conversion.external_key().to_owned(),
            dedupe: conversion.dedupe,
            revenue: conversion.revenue,
            currency: conversion.currency.clone(),
            site_id: conversion.site_id.clone(),
            source: conversion.source.clone(),
            created_at: conversion.created_at,
            status: conversion.status,
            status_at: conversion.status_at,
            status_id: conversion.status_id,
        }
    }
}

/// What became of a postback that was decided before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The outcome, as it was answered or, after a late click, as it would be now.
    pub outcome: Outcome,
    /// The conversion it made, or the one that made it a duplicate.
    pub conversion_id: Option<RequestId>,
    /// The version of the campaign's settings that it was decided by.
    pub policy_version: i64,
}

/// What the store knows of a batch's clickids, request ids and campaigns.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Postbacks decided before.
    pub known: HashMap<RequestId, Known>,
    /// Postbacks that stand in the log as refused.
    pub refused: HashSet<RequestId>,
    /// Clicks.
    pub clicks: HashMap<ClickId, Click>,
    /// Conversions per click, in the order in which they were stored.
    pub conversions: HashMap<ClickId, Vec<Stored>>,
    /// The campaigns concerned that somebody set.
    pub campaigns: HashMap<i64, Arc<Campaign>>,
    /// Postbacks that wait for the batch's clicks, and for those of its replayed postbacks.
    pub unmatched: HashMap<ClickId, Vec<Unmatched>>,
    /// How many wait for clicks that the batch's postbacks name but its clicks don't bring.
    pub unmatched_counts: HashMap<ClickId, usize>,
}

/// A row of the postback log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The postback.
    pub postback: Postback,
    /// What became of it.
    pub known: Known,
    /// Why, where the outcome alone doesn't tell.
    pub reason: Option<&'static str>,
    /// What would have refused it, had the campaign not only observed.
    pub observed: Vec<&'static str>,
}

/// A later step of a logged postback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which postback.
    pub request_id: RequestId,
    /// When it was received.
    pub received_at: Timestamp,
    /// What became of it now.
    pub known: Known,
    /// What brought the change about.
    pub reason: &'static str,
    /// Why it came to this, where the outcome alone doesn't tell.
    pub detail: Option<&'static str>,
    /// What would have refused it, had the campaign not only observed.
    pub observed: Vec<&'static str>,
}

/// What a postback said about the status of a conversion that was there before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// The postback's partition.
    pub partition: i32,
    /// Its number there; `None` where it only confirms the status, which no event tells.
    pub sequence: Option<i64>,
    /// The conversion with its status from now on.
    pub stored: Stored,
    /// Its status before.
    pub before: Status,
    /// Version of the campaign's settings that it was decided by.
    pub policy_version: i64,
}

/// What a batch writes. Statistics follow from `clicks`, `conversions` and `statuses` alone.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// New clicks.
    pub clicks: Vec<PlacedClick>,
    /// New conversions: partition, number within it, conversion.
    pub conversions: Vec<(i32, i64, Conversion)>,
    /// What became of conversions that were there before; never of one in `conversions`' own
    /// row, which keeps the status that it came with.
    pub statuses: Vec<StatusChange>,
    /// Refused postbacks whose rows make way for one in `log`.
    pub unrefused: Vec<RequestId>,
    /// New rows of the postback log.
    pub log: Vec<LogEntry>,
    /// Later steps of logged postbacks.
    pub changes: Vec<Change>,
    /// Postbacks that now wait for their click.
    pub unmatched_added: Vec<Unmatched>,
    /// Postbacks that no longer wait.
    pub unmatched_removed: Vec<RequestId>,
}

impl Writes {
    /// Joins the writes of another partition.
    pub fn append(&mut self, mut other: Self) {
        self.clicks.append(&mut other.clicks);
        self.conversions.append(&mut other.conversions);
        self.statuses.append(&mut other.statuses);
        self.unrefused.append(&mut other.unrefused);
        self.log.append(&mut other.log);
        self.changes.append(&mut other.changes);
        self.unmatched_added.append(&mut other.unmatched_added);
        self.unmatched_removed.append(&mut other.unmatched_removed);
    }
}
