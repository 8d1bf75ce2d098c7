//! What reports ask, and what they get: narrowed by filters, in pages, in the order of time.
//!
//! The statements are built here for both engines, each from the filters that were given, so that
//! the engine plans for those and no others. All values are parameters.

mod conversions;
mod log;
pub(crate) mod sql;
mod statistics;

pub(crate) use conversions::{conversions, history};
pub(crate) use log::{changes, log};
pub(crate) use statistics::statistics;

use jiff::Timestamp;
use postern_core::ids::RequestId;
use postern_core::status::Status;
use std::collections::HashMap;

/// Campaigns that a question is about. Whose access is narrower asks for fewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Campaigns {
    /// All, and what belongs to none.
    All,
    /// These alone.
    Only(Vec<i64>),
}

impl Campaigns {
    /// Whether there is nothing to be seen.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Only(ids) if ids.is_empty())
    }
}

/// From the first to before the second; either may be open.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first instant of it.
    pub from: Option<Timestamp>,
    /// The first instant after it.
    pub to: Option<Timestamp>,
}

/// A place in a list, and how far to go on from it. Lists go from the newest to the oldest; the
/// id decides between those of one instant.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where the page before it ended.
    pub after: Option<(Timestamp, RequestId)>,
    /// Most rows.
    pub limit: i64,
}

/// Which time of a conversion is meant.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum DateOf {
    /// When its postback was received.
    #[default]
    Conversion,
    /// When its click was made.
    Click,
}

/// Which conversions. A text that is empty means those that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionFilter {
    /// Of which campaigns.
    pub campaigns: Campaigns,
    /// In which time.
    pub range: Range,
    /// And by which of their times.
    pub date: DateOf,
    /// Of one click.
    pub clickid: Option<String>,
    /// Of one site.
    pub site_id: Option<String>,
    /// Of one source.
    pub source: Option<String>,
    /// With this transaction id.
    pub external_id: Option<String>,
    /// In this currency.
    pub currency: Option<String>,
    /// Of this event.
    pub event: Option<String>,
    /// With this status at present.
    pub status: Option<Status>,
    /// With these subids.
    pub subids: [Option<String>; 5],
}

impl ConversionFilter {
    /// All conversions of `campaigns`.
    #[must_use]
    pub fn of(campaigns: Campaigns) -> Self {
        Self {
            campaigns,
            range: Range::default(),
            date: DateOf::default(),
            clickid: None,
            site_id: None,
            source: None,
            external_id: None,
            currency: None,
            event: None,
            status: None,
            subids: Default::default(),
        }
    }
}

/// A conversion as it is shown: without publisher and traffic log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownConversion {
    /// Its id, which is the request id of its postback.
    pub conversion_id: RequestId,
    /// Its click.
    pub clickid: String,
    /// Its campaign.
    pub campaign_id: i64,
    /// Where the click was made.
    pub site_id: String,
    /// By which source.
    pub source: String,
    /// Millionths of a unit.
    pub revenue_micros: i64,
    /// Their currency.
    pub currency: String,
    /// As sent.
    pub subids: [Option<String>; 5],
    /// As sent.
    pub external_id: Option<String>,
    /// As sent; empty for none.
    pub event: String,
    /// At present.
    pub status: String,
    /// When its postback was received.
    pub created_at: Timestamp,
    /// When its click was made.
    pub clicked_at: Timestamp,
    /// What was said of its status, in the order of time; only where it was asked for.
    pub history: Vec<StatusEntry>,
}

/// What one postback said of a conversion's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusEntry {
    /// The status.
    pub status: String,
    /// When the postback was received.
    pub at: Timestamp,
    /// Its request id.
    pub request_id: RequestId,
}

/// What statistics are grouped by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The campaign.
    Campaign,
    /// The local day.
    Day,
    /// The hour: its first instant.
    Hour,
    /// The site.
    Site,
    /// The source.
    Source,
    /// The currency.
    Currency,
    /// The event.
    Event,
    /// One of the five.
    Subid(u8),
}

/// The value of a [`Dimension`]: days are numbered from 1970-01-01, hours are seconds of their
/// first instant from then on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupValue {
    /// Campaign, day, hour.
    Number(i64),
    /// All others; those without have an empty one.
    Text(String),
}

/// What is to be summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsQuery {
    /// Which conversions.
    pub filter: ConversionFilter,
    /// By what, in this order.
    pub group_by: Vec<Dimension>,
    /// Seconds that local time is ahead of UTC, each from an instant (in seconds) on; the first
    /// holds before it too. Must not be empty.
    pub offsets: Vec<(i64, i64)>,
    /// Most rows that come back.
    pub limit: i64,
}

/// A sum of what has the same group, currency and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsRow {
    /// In the order of `group_by`.
    pub group: Vec<GroupValue>,
    /// What is counted.
    pub counted: Counted,
}

/// What a [`StatisticsRow`] counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Clicks; only where no filter and no group asks for what clicks don't have.
    Clicks(i64),
    /// Conversions of one currency and status.
    Conversions {
        /// The currency.
        currency: String,
        /// The status at present.
        status: String,
        /// How many.
        count: i64,
        /// Their revenue in millionths.
        revenue_micros: i128,
    },
}

/// Which postbacks of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// Of which campaigns; what was refused before its campaign was known has none.
    pub campaigns: Campaigns,
    /// When received.
    pub range: Range,
    /// With this outcome after the latest step.
    pub outcome: Option<String>,
    /// With this reason.
    pub reason: Option<String>,
    /// With a warning of this code.
    pub warning: Option<String>,
    /// This one.
    pub request_id: Option<RequestId>,
    /// Of this click.
    pub clickid: Option<String>,
    /// From this address.
    pub address: Option<String>,
    /// Whose query has this in it.
    pub raw_query: Option<String>,
}

impl LogFilter {
    /// All postbacks of `campaigns`.
    #[must_use]
    pub fn of(campaigns: Campaigns) -> Self {
        Self {
            campaigns,
            range: Range::default(),
            outcome: None,
            reason: None,
            warning: None,
            request_id: None,
            clickid: None,
            address: None,
            raw_query: None,
        }
    }
}

/// A row of the log after its latest step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPostback {
    /// Its request id.
    pub request_id: RequestId,
    /// When it was received.
    pub received_at: Timestamp,
    /// What became of it.
    pub outcome: String,
    /// Why.
    pub reason: Option<String>,
    /// What a refused one was told.
    pub message: Option<String>,
    /// Its click, where that much was understood.
    pub clickid: Option<String>,
    /// Its campaign, where one is known.
    pub campaign_id: Option<i64>,
    /// The conversion that it made, changed, or is a duplicate of.
    pub conversion_id: Option<RequestId>,
    /// As sent, normalized.
    pub revenue_micros: Option<i64>,
    /// As sent, normalized.
    pub currency: Option<String>,
    /// As sent.
    pub external_id: Option<String>,
    /// As sent.
    pub event: Option<String>,
    /// The status word that it brought.
    pub status: Option<String>,
    /// JSON: what was taken in spite of being odd.
    pub warnings: Option<String>,
    /// What would have refused it, with commas.
    pub observed: Option<String>,
    /// Of HTTP.
    pub method: String,
    /// As sent.
    pub raw_query: String,
    /// As sent.
    pub raw_body: String,
    /// The caller's.
    pub address: String,
    /// The caller's.
    pub user_agent: String,
    /// Its steps after the first; only where they were asked for.
    pub history: Vec<LogStep>,
}

/// A later step of a logged postback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStep {
    /// What became of it then.
    pub outcome: String,
    /// What brought the step about.
    pub reason: String,
    /// Why it came to this.
    pub detail: Option<String>,
    /// The conversion.
    pub conversion_id: Option<RequestId>,
}

/// Puts each entry to the conversion that it is about.
pub(crate) fn add_history(
    conversions: &mut [ShownConversion],
    entries: Vec<(RequestId, StatusEntry)>,
) {
    let mut places: HashMap<RequestId, Vec<StatusEntry>> = HashMap::new();
    for (conversion, entry) in entries {
        places.entry(conversion).or_default().push(entry);
    }
    for conversion in conversions {
        conversion.history = places.remove(&conversion.conversion_id).unwrap_or_default();
    }
}

/// Puts each step to the postback that it is about.
pub(crate) fn add_steps(postbacks: &mut [ShownPostback], steps: Vec<(RequestId, LogStep)>) {
    let mut places: HashMap<RequestId, Vec<LogStep>> = HashMap::new();
    for (postback, step) in steps {
        places.entry(postback).or_default().push(step);
    }
    for postback in postbacks {
        postback.history = places.remove(&postback.request_id).unwrap_or_default();
    }
}
