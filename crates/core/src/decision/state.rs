//! What the decision reads and writes.

use crate::currency::Currency;
use crate::ids::{ClickId, RequestId};
use crate::money::Revenue;
use crate::record::click::Click;
use crate::record::conversion::Conversion;
use crate::record::postback::Postback;
use crate::record::verdict::Outcome;
use std::collections::HashMap;

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
    /// The number of the last conversion stored for this partition.
    pub sequence: i64,
    /// The number of the last conversion whose event was published.
    pub published: i64,
    /// How many postbacks wait for their click.
    pub unmatched: i64,
}

/// How a campaign tells one conversion from the next.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Dedupe {
    /// One conversion per click.
    #[default]
    Click,
    /// One per click and external id, blank being a value of its own.
    Txid,
}

/// What a campaign asks for. The default stands for a campaign that nobody set.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Version of the settings; 0 for none.
    pub version: i64,
    /// The dedupe policy.
    pub dedupe: Dedupe,
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

/// What duplicates are compared with and echo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The conversion.
    pub conversion_id: RequestId,
    /// Its campaign.
    pub campaign_id: i64,
    /// Its external id, empty for none.
    pub external_key: String,
    /// Its revenue.
    pub revenue: Revenue,
    /// Its currency.
    pub currency: Currency,
}

impl Stored {
    /// The outcome of a postback that this conversion makes a duplicate.
    #[must_use]
    pub fn as_duplicate(&self) -> Outcome {
        Outcome::Duplicate {
            campaign_id: self.campaign_id,
            revenue: self.revenue,
            currency: self.currency.clone(),
        }
    }
}

impl From<&Conversion> for Stored {
    fn from(conversion: &Conversion) -> Self {
        Self {
            conversion_id: conversion.conversion_id,
            campaign_id: conversion.campaign_id,
            external_key: conversion.external_key().to_owned(),
            revenue: conversion.revenue,
            currency: conversion.currency.clone(),
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
    /// Clicks.
    pub clicks: HashMap<ClickId, Click>,
    /// Conversions per click, in the order in which they were stored.
    pub conversions: HashMap<ClickId, Vec<Stored>>,
    /// Settings of the campaigns concerned.
    pub policies: HashMap<i64, Policy>,
    /// Postbacks that wait for the batch's clicks.
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
}

/// A later step of a logged postback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which postback.
    pub request_id: RequestId,
    /// What became of it now.
    pub known: Known,
    /// What brought the change about.
    pub reason: &'static str,
}

/// What a batch writes. Statistics follow from `clicks` and `conversions` alone.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// New clicks.
    pub clicks: Vec<PlacedClick>,
    /// New conversions: partition, number within it, conversion.
    pub conversions: Vec<(i32, i64, Conversion)>,
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
        self.log.append(&mut other.log);
        self.changes.append(&mut other.changes);
        self.unmatched_added.append(&mut other.unmatched_added);
        self.unmatched_removed.append(&mut other.unmatched_removed);
    }
}
