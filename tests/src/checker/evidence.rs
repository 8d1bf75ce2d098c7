//! What is there once everything is at rest, in one form whatever kept it: ids as hyphenated
//! text, times in microseconds since 1970, money in millionths.

use serde_json::Value;
use std::collections::BTreeMap;

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
    pub event: Option<String>,
    pub said: Option<Said>,
    pub signature: Option<Signature>,
    /// Where it came from.
    pub address: String,
    /// The value as it stands there.
    pub value: String,
}

/// What a postback says of a status: its word, and what the ingress' map makes of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub word: String,
    pub status: Option<String>,
}

/// What a postback was signed with, and what of it should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub sig: String,
    pub query: String,
}

/// A conversion at one of its statuses: the stored row with the status that it came with, or the
/// event that tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    pub conversion_id: String,
    pub status: Spoken,
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
    pub dedupe: String,
}

/// A status, and by whom and when it was said. Of several the greatest holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spoken {
    /// When that postback was received.
    pub at: i64,
    /// Its request id.
    pub id: String,
    pub status: String,
}

/// A stored conversion with its number in its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub partition: i64,
    pub sequence: i64,
    pub conversion: Conversion,
    /// Its present status, as `current_conversions` shows it.
    pub present: Spoken,
}

/// A row of `conversion_statuses`: what a later postback said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub conversion_id: String,
    pub spoken: Spoken,
    pub policy_version: i64,
    pub partition: i64,
    /// None where it only confirms.
    pub sequence: Option<i64>,
}

/// A row of the log, with the latest of its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub request_id: String,
    pub received_at: i64,
    /// What it came to when it was read.
    pub first: Step,
    /// The latest change.
    pub change: Option<Step>,
    pub clickid: Option<String>,
    pub micros: Option<i64>,
    pub currency: Option<String>,
    pub external_id: Option<String>,
    pub event: Option<String>,
    pub status_word: Option<String>,
    pub place: Option<Place>,
}

/// What a postback came to, then or later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub outcome: String,
    /// Why, where the outcome doesn't tell.
    pub why: Option<String>,
    pub conversion_id: Option<String>,
    pub campaign_id: Option<i64>,
    /// The status that it changed to.
    pub status: Option<String>,
    /// What would have refused it, with commas.
    pub observed: Option<String>,
    pub policy_version: i64,
}

impl Logged {
    /// What it has come to.
    #[must_use]
    pub fn last(&self) -> &Step {
        self.change.as_ref().unwrap_or(&self.first)
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

/// What a row of the statistics is found by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub campaign_id: i64,
    /// A quarter of an hour.
    pub bucket: i64,
    pub site_id: String,
    pub source: String,
    /// None for clicks.
    pub currency: Option<String>,
    /// None for clicks.
    pub status: Option<String>,
    pub partition: i64,
}

/// A row of `conversion_stats` or, with neither units nor millionths, of `click_stats`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    pub key: Key,
    pub count: i64,
    pub whole: i64,
    pub micros: i64,
}

impl Key {
    /// Without site, source and partition.
    #[must_use]
    pub fn total(&self) -> Self {
        Self {
            site_id: String::new(),
            source: String::new(),
            partition: 0,
            ..self.clone()
        }
    }
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

/// A campaign as it is set now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Campaign {
    pub campaign_id: i64,
    pub version: i64,
    pub settings: Value,
    pub secret: Option<String>,
}

/// What a version of a campaign's settings said. Its secret isn't kept, only whether it had one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub campaign_id: i64,
    pub version: i64,
    pub settings: Value,
    pub secret_set: bool,
}

/// What the store holds.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// How many partitions both topics have.
    pub topic_partitions: i64,
    pub partitions: Vec<Partition>,
    pub campaigns: Vec<Campaign>,
    pub versions: Vec<Version>,
    pub clicks: Vec<Click>,
    pub conversions: Vec<Stored>,
    pub statements: Vec<Statement>,
    pub log: Vec<Logged>,
    pub unmatched: Vec<Waiting>,
    pub conversion_stats: Vec<Sum>,
    pub click_stats: Vec<Sum>,
    /// Without site, source and partition.
    pub conversion_totals: Vec<Sum>,
    pub click_totals: Vec<Sum>,
}

/// What stands on the topics.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    pub clicks: Vec<Click>,
    /// When the broker appended each, where it tells: in milliseconds since 1970, by place.
    pub appended: BTreeMap<Place, u64>,
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
    /// The store lost its newest rows and was filled again from the topics: a postback that had been
    /// told `click_not_found` may have met its click at once then.
    pub refilled: bool,
}
