//! What is there once everything is at rest, in one form whatever kept it: ids as hyphenated
//! text, times in microseconds since 1970, money in millionths.

use super::exact;
use crate::kcat::Record;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A place in a topic.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub partition: i64,
    pub offset: i64,
}

/// A click, on the topic or in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    pub place: Place,
    pub clickid: String,
    pub campaign_id: i64,
    /// Site, source, publisher, traffic log.
    pub labels: [String; 4],
    /// `None` for a record without it: the store then has the time at which it came.
    pub clicked_at: Option<i64>,
}

/// A record of `postern.postbacks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postback {
    pub place: Place,
    pub key: String,
    pub request_id: String,
    pub received_at: i64,
    pub clickid: String,
    pub micros: i64,
    pub currency: String,
    pub currency_sent: bool,
    pub external_id: Option<String>,
    pub subids: Vec<Option<String>>,
    /// The value as it stands there.
    pub value: String,
}

/// A conversion: the stored row, or the event that tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    pub conversion_id: String,
    pub clickid: String,
    pub event: String,
    pub campaign_id: i64,
    pub labels: [String; 4],
    pub micros: i64,
    pub currency: String,
    pub currency_sent: bool,
    pub external_id: Option<String>,
    pub subids: Vec<Option<String>>,
    pub created_at: i64,
    pub clicked_at: i64,
    pub policy_version: i64,
}

/// A stored conversion with its number in its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub partition: i64,
    pub sequence: i64,
    pub conversion: Conversion,
}

/// A row of the log, with the latest of its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub request_id: String,
    pub received_at: i64,
    /// The first outcome.
    pub outcome: String,
    pub reason: Option<String>,
    /// As of the first outcome.
    pub conversion_id: Option<String>,
    /// The latest change: outcome, and the conversion that it speaks of.
    pub change: Option<(String, Option<String>)>,
    pub clickid: Option<String>,
    pub micros: Option<i64>,
    pub currency: Option<String>,
    pub external_id: Option<String>,
    pub place: Option<Place>,
}

impl Logged {
    /// What it has come to.
    #[must_use]
    pub fn last(&self) -> (&str, Option<&str>) {
        match &self.change {
            Some((outcome, id)) => (outcome, id.as_deref()),
            None => (&self.outcome, self.conversion_id.as_deref()),
        }
    }
}

/// A postback that waits for its click.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub request_id: String,
    pub clickid: String,
    pub place: Place,
    pub postback: String,
}

/// What a row of the statistics is found by: campaign, quarter of an hour, site, source,
/// currency (none for clicks), partition.
pub type Key = (i64, i64, String, String, Option<String>, i64);

/// A row of `conversion_stats` or, with neither units nor millionths, of `click_stats`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    pub key: Key,
    pub count: i64,
    pub whole: i64,
    pub micros: i64,
}

/// A row of `partitions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub partition: i64,
    pub clicks: i64,
    pub postbacks: i64,
    pub sequence: i64,
    pub published: i64,
    pub unmatched: i64,
}

/// What the store holds.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// How many partitions both topics have.
    pub topic_partitions: i64,
    pub partitions: Vec<Partition>,
    /// Campaigns that take one conversion per click and external id.
    pub by_external_id: BTreeSet<i64>,
    pub clicks: Vec<Click>,
    pub conversions: Vec<Stored>,
    pub log: Vec<Logged>,
    pub unmatched: Vec<Waiting>,
    pub conversion_stats: Vec<Sum>,
    pub click_stats: Vec<Sum>,
}

/// What stands on the topics.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    pub clicks: Vec<Click>,
    pub postbacks: Vec<Postback>,
    pub events: Vec<Conversion>,
    /// Records that are none of these and no barriers.
    pub unreadable: usize,
}

/// What the status endpoint said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Answer {
        status: u16,
        body: String,
    },
    /// Not to be asked, and why.
    Nothing(String),
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub store: Store,
    pub topics: Topics,
    /// By request id.
    pub statuses: BTreeMap<String, Told>,
    /// What didn't come to rest, in a sentence each.
    pub unsettled: Vec<String>,
}

/// Fields of a JSON object, by what they must be.
pub(super) struct Row<'a>(pub &'a Value);

impl Row<'_> {
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.0[name].as_i64()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0[name].as_str().map(str::to_owned)
    }

    /// PostgreSQL has booleans, SQLite 0 and 1.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        let value = &self.0[name];
        value.as_bool().or(value.as_i64().map(|number| number != 0))
    }

    pub(super) fn time(&self, name: &str) -> Option<i64> {
        exact::time(self.0[name].as_str()?)
    }

    fn micros(&self, name: &str) -> Option<i64> {
        exact::micros(self.0[name].as_str()?)
    }

    /// An id of a foreign system: text or a number, none as empty.
    fn label(&self, name: &str) -> String {
        match &self.0[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    fn labels(&self) -> [String; 4] {
        ["site_id", "source", "publisher_id", "traffic_log_id"].map(|name| self.label(name))
    }

    fn subids(&self) -> Vec<Option<String>> {
        let list = self.0["subids"].as_array().map(Vec::as_slice);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        list.unwrap_or_default().iter().map(text).collect()
    }
}

fn place(record: &Record) -> Place {
    Place {
        partition: record.partition,
        offset: record.offset,
    }
}

fn value(record: &Record) -> Option<Value> {
    serde_json::from_str(&record.value).ok()
}

/// A record of `postern.clicks`: a click, or `None` with whether it is a barrier.
pub(super) fn click(record: &Record) -> Result<Click, bool> {
    // A barrier has no clickid.
    let json = value(record).ok_or(false)?;
    let row = Row(&json);
    let Some(clickid) = row.text("clickid") else {
        return Err(record.key == "barrier");
    };
    let campaign_id = row.label("campaign_id").trim().parse().unwrap_or(0);
    let clicked_at = match &json["clicked_at"] {
        Value::Null => None,
        _ => Some(row.time("clicked_at").ok_or(false)?),
    };
    if campaign_id < 1 || clickid.is_empty() {
        return Err(false);
    }
    Ok(Click {
        place: place(record),
        clickid,
        campaign_id,
        labels: row.labels(),
        clicked_at,
    })
}

/// A record of `postern.postbacks`.
pub(super) fn postback(record: &Record) -> Option<Postback> {
    let json = value(record)?;
    let row = Row(&json);
    Some(Postback {
        place: place(record),
        key: record.key.clone(),
        request_id: row.text("request_id")?,
        received_at: row.time("received_at")?,
        clickid: row.text("clickid")?,
        micros: row.micros("revenue")?,
        currency: row.text("currency")?,
        currency_sent: row.flag("currency_sent")?,
        external_id: row.text("external_id"),
        subids: row.subids(),
        value: record.value.clone(),
    })
}

/// A record of `postern.conversions`.
pub(super) fn event(record: &Record) -> Option<Conversion> {
    let json = value(record)?;
    let row = Row(&json);
    Some(Conversion {
        conversion_id: row.text("conversion_id")?,
        clickid: row.text("clickid")?,
        event: row.text("event")?,
        campaign_id: row.number("campaign_id")?,
        labels: row.labels(),
        micros: row.micros("revenue")?,
        currency: row.text("currency")?,
        currency_sent: row.flag("currency_sent")?,
        external_id: row.text("external_id"),
        subids: row.subids(),
        created_at: row.time("created_at")?,
        clicked_at: row.time("clicked_at")?,
        policy_version: row.number("policy_version")?,
    })
}
