//! Answers of reports, read to the last digit: no number goes through a float.

use super::csv;
use super::sums::{GROUPS, Group, Groups, Sums};
use super::zone::Zone;
use super::{Conversion, SECOND, STATUSES};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What a conversion has, in the order of the API page.
pub const LISTED: [&str; 17] = [
    "conversion_id",
    "clickid",
    "campaign_id",
    "site_id",
    "source",
    "revenue",
    "currency",
    "subid0",
    "subid1",
    "subid2",
    "subid3",
    "subid4",
    "external_id",
    "event",
    "status",
    "created_at",
    "clicked_at",
];

/// A conversion's values; the revenue in millionths.
pub type Line = Vec<Option<String>>;

/// Any JSON object.
pub type Object = BTreeMap<String, Box<RawValue>>;

/// What a list must say of a conversion.
#[must_use]
pub fn line(one: &Conversion, zone: &Zone) -> Line {
    let text = |text: &str| Some(text.to_owned());
    let mut line = vec![
        text(&one.id),
        text(&one.click.clickid),
        Some(one.click.campaign.to_string()),
        text(&one.click.site),
        text(&one.click.source),
        Some(one.micros.to_string()),
        text(one.currency),
    ];
    line.extend(one.subids.iter().cloned());
    line.extend([
        one.external_id.clone(),
        (!one.event.is_empty()).then(|| one.event.clone()),
        text(STATUSES[one.present()]),
        Some(zone.show(one.created_at)),
        Some(zone.show(one.click.at)),
    ]);
    line
}

/// What CSV can say of texts: none is as empty, and line breaks are pictures.
#[must_use]
pub fn flat(line: Line) -> Line {
    let cells = line.into_iter().map(Option::unwrap_or_default);
    let cells = cells.map(|text| text.replace('\r', "␍").replace('\n', "␊"));
    cells.map(Some).collect()
}

#[must_use]
pub fn object(json: &str) -> Object {
    let read = serde_json::from_str(json);
    read.unwrap_or_else(|error| panic!("{error}: {json:.300}"))
}

#[must_use]
pub fn objects(json: &str) -> Vec<Object> {
    let read = serde_json::from_str(json);
    read.unwrap_or_else(|error| panic!("{error}: {json:.300}"))
}

fn text(object: &Object, name: &str) -> Option<String> {
    let raw = object.get(name);
    let raw = raw.unwrap_or_else(|| panic!("no {name}: {object:?}")).get();
    serde_json::from_str(raw).unwrap_or_else(|error| panic!("{name}: {error}: {raw}"))
}

/// A number as it is written.
fn digits(object: &Object, name: &str) -> Option<String> {
    let raw = object.get(name);
    let raw = raw.unwrap_or_else(|| panic!("no {name}: {object:?}")).get();
    assert!(!raw.starts_with('"'), "{name}: {raw}");
    (raw != "null").then(|| raw.to_owned())
}

fn integer(object: &Object, name: &str) -> i64 {
    let digits = digits(object, name).unwrap();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("{name}: {digits}"))
}

/// A decimal number of up to six fraction digits, in millionths.
#[must_use]
pub fn micros(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    assert!(
        !whole.is_empty() && is_number(whole) && is_number(fraction) && fraction.len() <= 6,
        "no amount: {text}"
    );
    let fraction: i128 = format!("{fraction:0<6}").parse().unwrap();
    whole.parse::<i128>().unwrap() * i128::from(SECOND) + fraction
}

/// A conversion of a list; `more` names what it has beside the usual.
#[must_use]
pub fn listed(object: &Object, more: &[&str]) -> Line {
    assert_eq!(object.len(), LISTED.len() + more.len(), "{object:?}");
    let value = |name: &&str| match *name {
        "campaign_id" => digits(object, name),
        "revenue" => digits(object, name).map(|text| micros(&text).to_string()),
        name => text(object, name),
    };
    LISTED.iter().map(value).collect()
}

/// A page: its conversions, and where it goes on.
#[must_use]
pub fn page(json: &str) -> (Vec<Line>, Option<String>) {
    let page = object(json);
    let rows = objects(page["conversions"].get());
    let rows = rows.iter().map(|row| listed(row, &[])).collect();
    (rows, text(&page, "next_cursor"))
}

#[must_use]
pub fn ndjson(text: &str) -> Vec<Line> {
    assert!(text.is_empty() || text.ends_with('\n'));
    let lines = text.lines();
    lines.map(|line| listed(&object(line), &[])).collect()
}

/// A list as CSV.
#[must_use]
pub fn csv_list(text: &str) -> Vec<Line> {
    let mut records = csv::read(text).unwrap().into_iter();
    assert_eq!(records.next().unwrap(), LISTED);
    let line = |record: Vec<String>| {
        let cells = record.iter().zip(LISTED).map(|(field, name)| match name {
            "revenue" => Some(micros(field).to_string()),
            _ => Some(csv::unguarded(field).unwrap().to_owned()),
        });
        cells.collect()
    };
    records.map(line).collect()
}

/// Counts and revenues of an object that has the fields of a sum.
fn sums_of(get: impl Fn(&str) -> String) -> Sums {
    let counts = ["conversions", "pending", "rejected", "reversed"];
    let revenues = [
        "revenue",
        "revenue_pending",
        "revenue_rejected",
        "revenue_reversed",
    ];
    let mut sums = Sums::default();
    for (place, sum) in sums.iter_mut().enumerate() {
        *sum = (
            get(counts[place]).parse().unwrap(),
            micros(&get(revenues[place])),
        );
    }
    sums
}

/// Conversions per click, rounded to six digits.
fn check_rate(group: &Group, rate: Option<String>) {
    let clicks = i128::from(group.clicks.unwrap_or_default());
    let Some(rate) = rate else {
        assert_eq!(clicks, 0, "clicks, and no rate");
        return;
    };
    let exact = i128::from(group.count(0)) * i128::from(SECOND);
    let off = (micros(&rate) * clicks - exact).abs();
    assert!(clicks > 0 && off * 2 <= clicks, "rate {rate}: {group:?}");
}

/// Groups as a list of JSON objects.
#[must_use]
pub fn groups(objects: &[Object], by: &[&str]) -> Groups {
    let mut groups = Groups::new();
    for object in objects {
        let values = by.iter().map(|by| match *by {
            "campaign" => digits(object, "campaign_id"),
            by => text(object, column(by)),
        });
        let mut group = Group {
            clicks: digits(object, "clicks").map(|clicks| clicks.parse().unwrap()),
            ..Group::default()
        };
        for currency in self::objects(object["currencies"].get()) {
            let sums = sums_of(|name| digits(&currency, name).unwrap());
            let name = text(&currency, "currency").unwrap();
            assert!(group.currencies.insert(name, sums).is_none());
        }
        for (status, name) in ["conversions", "pending", "rejected", "reversed"]
            .iter()
            .enumerate()
        {
            assert_eq!(integer(object, name), group.count(status), "{object:?}");
        }
        check_rate(&group, digits(object, "conversion_rate"));
        assert!(
            groups.insert(values.collect(), group).is_none(),
            "{object:?}"
        );
    }
    groups
}

/// Groups as CSV; and the sums of its columns, clicks first.
#[must_use]
pub fn csv_groups(text: &str, by: &[&str]) -> (Groups, [i128; 9]) {
    let mut records = csv::read(text).unwrap().into_iter();
    let names = records.next().unwrap();
    let mut groups = Groups::new();
    let mut columns = [0; 9];
    let mut last = None;
    for record in records {
        let get = |name: &str| {
            let place = names.iter().position(|known| known == name);
            record[place.unwrap_or_else(|| panic!("no {name}: {names:?}"))].clone()
        };
        let text = |name: &str| csv::unguarded(&get(name)).unwrap().to_owned();
        let values: Vec<_> = by.iter().map(|by| Some(text(column(by)))).collect();
        let sums = sums_of(get);
        for (place, (count, micros)) in sums.iter().enumerate() {
            columns[1 + place] += i128::from(*count);
            columns[5 + place] += micros;
        }
        let clicks = get("clicks");
        if !clicks.is_empty() {
            columns[0] += clicks.parse::<i128>().unwrap();
        }
        let is_first = last.as_ref() != Some(&values);
        let group = groups.entry(values.clone()).or_insert_with(|| Group {
            clicks: (!clicks.is_empty()).then(|| clicks.parse().unwrap()),
            ..Group::default()
        });
        assert!(is_first || clicks.is_empty(), "clicks twice: {record:?}");
        assert!(is_first || get("conversion_rate").is_empty(), "{record:?}");
        let currency = text("currency");
        // A group of clicks alone has a line too.
        if !currency.is_empty() {
            assert!(
                group.currencies.insert(currency, sums).is_none(),
                "{record:?}"
            );
        }
        last = Some(values);
    }
    (groups, columns)
}

fn column(by: &str) -> &str {
    let known = GROUPS.iter().find(|(name, _)| *name == by);
    known.map_or(by, |(_, column)| column)
}
