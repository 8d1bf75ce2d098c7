//! Statistics, summed from the list.

use super::question::{Question, subid_of};
use super::{Click, Conversion, QUARTER, STATUSES};
use std::collections::{BTreeMap, HashMap};

/// What statistics are grouped by, by the name of its parameter, beside the name that its values
/// have in answers.
pub const GROUPS: [(&str, &str); 12] = [
    ("campaign", "campaign_id"),
    ("day", "day"),
    ("hour", "hour"),
    ("site", "site_id"),
    ("source", "source"),
    ("currency", "currency"),
    ("event", "event"),
    ("subid0", "subid0"),
    ("subid1", "subid1"),
    ("subid2", "subid2"),
    ("subid3", "subid3"),
    ("subid4", "subid4"),
];

/// How many, and their revenue in millionths, by status.
pub type Sums = [(i64, i128); STATUSES.len()];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// None where clicks can't be told apart like this.
    pub clicks: Option<i64>,
    pub currencies: BTreeMap<String, Sums>,
}

impl Group {
    /// All conversions of a status.
    #[must_use]
    pub fn count(&self, status: usize) -> i64 {
        self.currencies.values().map(|sums| sums[status].0).sum()
    }

    pub fn add(&mut self, currency: &str, status: usize, micros: i128) {
        let sums = self.currencies.entry(currency.to_owned()).or_default();
        sums[status].0 += 1;
        sums[status].1 += micros;
    }
}

/// By their values.
pub type Groups = BTreeMap<Vec<Option<String>>, Group>;

/// What statistics must say.
#[must_use]
pub fn sums(conversions: &[Conversion], clicks: &[Click], asked: &Question, by: &[&str]) -> Groups {
    let mut groups = Groups::new();
    let known = ["campaign", "day", "hour", "site", "source"];
    let has_clicks = asked.has_clicks() && by.iter().all(|by| known.contains(by));
    let nothing = || Group {
        clicks: has_clicks.then_some(0),
        ..Group::default()
    };
    if by.is_empty() {
        groups.insert(Vec::new(), nothing());
    }
    let mut times = Times {
        asked,
        known: HashMap::new(),
    };
    for one in conversions.iter().filter(|one| asked.means(one)) {
        let time = asked.time(one);
        let values = by.iter().map(|by| match *by {
            "currency" => Some(one.currency.to_owned()),
            "event" => filled(&one.event),
            subid if subid.starts_with("subid") => filled(subid_of(one, subid).unwrap_or_default()),
            other => times.value(other, &one.click, time),
        });
        let group = groups.entry(values.collect()).or_insert_with(nothing);
        group.add(one.currency, one.present(), one.micros.into());
    }
    if has_clicks {
        for click in clicks.iter().filter(|click| asked.means_click(click)) {
            let values = by.iter().map(|by| times.value(by, click, click.at));
            let group = groups.entry(values.collect()).or_insert_with(nothing);
            *group.clicks.get_or_insert_default() += 1;
        }
    }
    groups
}

/// No event and no subid are null.
fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Days and hours by quarters: within one, no zone of today changes either.
struct Times<'a> {
    asked: &'a Question,
    known: HashMap<(bool, i64), String>,
}

impl Times<'_> {
    /// The value of what conversions and clicks both have.
    fn value(&mut self, by: &str, click: &Click, at: i64) -> Option<String> {
        let zone = &self.asked.zone;
        let quarter = at.div_euclid(QUARTER);
        let text = match by {
            "campaign" => click.campaign.to_string(),
            "site" => click.site.clone(),
            "source" => click.source.clone(),
            "day" => {
                let known = self.known.entry((true, quarter));
                known.or_insert_with(|| zone.day(at)).clone()
            }
            "hour" => {
                let known = self.known.entry((false, quarter));
                known.or_insert_with(|| zone.hour(at)).clone()
            }
            other => panic!("no group: {other}"),
        };
        Some(text)
    }
}
