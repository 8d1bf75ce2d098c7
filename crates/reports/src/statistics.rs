//! `GET /v1/stats`: clicks and conversions, counted and summed by groups.

use crate::lists::conversion_filter;
use crate::parameters::Parameters;
use crate::routes::{Answer, Call, Reports};
use crate::table::{Cell, Format, Row, write_csv, write_header, write_json};
use crate::times::{self, Zone};
use hyper::StatusCode;
use jiff::Timestamp;
use postern_core::status::Status;
use postern_store::reading::{Counted, Dimension, GroupValue, StatisticsQuery, StatisticsRow};
use std::collections::BTreeMap;

/// Most sums that an answer is made of: one for each group, currency and status.
const MAX_SUMS: i64 = 200_000;

/// Counts, and revenue in millionths, by status in the order of [`Status::ALL`].
type Sums = [(i64, i128); Status::ALL.len()];

/// What is known of a group.
#[derive(Default)]
struct Group {
    clicks: i64,
    currencies: BTreeMap<String, Sums>,
}

impl Group {
    /// All conversions of a status, whatever their currency.
    fn count(&self, status: usize) -> i64 {
        self.currencies.values().map(|sums| sums[status].0).sum()
    }
}

/// What is shown, and how.
struct Shown {
    group_by: Vec<Dimension>,
    groups: BTreeMap<Vec<GroupValue>, Group>,
    /// Whether clicks can be told apart like this.
    has_clicks: bool,
    zone: Zone,
}

fn dimensions(text: &str) -> Result<Vec<Dimension>, &'static str> {
    const WRONG: &str = "must be some of campaign, day or hour, site, source, currency, event, \
                         subid0 to subid4, each once, with commas";
    let mut dimensions = Vec::new();
    for name in text.split(',') {
        let dimension = match name.trim() {
            "campaign" | "campaign_id" => Dimension::Campaign,
            "day" => Dimension::Day,
            "hour" => Dimension::Hour,
            "site" | "site_id" => Dimension::Site,
            "source" => Dimension::Source,
            "currency" => Dimension::Currency,
            "event" => Dimension::Event,
            "subid0" => Dimension::Subid(0),
            "subid1" => Dimension::Subid(1),
            "subid2" => Dimension::Subid(2),
            "subid3" => Dimension::Subid(3),
            "subid4" => Dimension::Subid(4),
            _ => return Err(WRONG),
        };
        let is_time = |by: &Dimension| matches!(by, Dimension::Day | Dimension::Hour);
        let has_time = is_time(&dimension) && dimensions.iter().any(is_time);
        if has_time || dimensions.contains(&dimension) {
            return Err(WRONG);
        }
        dimensions.push(dimension);
    }
    Ok(dimensions)
}

fn name(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Campaign => "campaign_id",
        Dimension::Day => "day",
        Dimension::Hour => "hour",
        Dimension::Site => "site_id",
        Dimension::Source => "source",
        Dimension::Currency => "currency",
        Dimension::Event => "event",
        Dimension::Subid(0) => "subid0",
        Dimension::Subid(1) => "subid1",
        Dimension::Subid(2) => "subid2",
        Dimension::Subid(3) => "subid3",
        Dimension::Subid(_) => "subid4",
    }
}

impl Reports {
    pub(crate) async fn statistics(&self, call: &Call, query: &str) -> Answer {
        let mut parameters = Parameters::read(query);
        let token = parameters.text("token");
        let access = match self.admit(call, token.as_deref()).await {
            Ok(access) => access,
            Err(answer) => return answer,
        };
        let zone = Zone::read(&mut parameters);
        let mut filter = conversion_filter(&access, &mut parameters);
        filter.range = zone.quarters(&mut parameters);
        let group_by = parameters.parsed("group_by", dimensions);
        let format = parameters.parsed("format", Format::of).unwrap_or_default();
        if let Err(answer) = parameters.finish() {
            return answer;
        }
        let query = StatisticsQuery {
            offsets: zone.offsets(filter.range),
            filter,
            group_by: group_by.unwrap_or_default(),
            limit: MAX_SUMS + 1,
        };
        let rows = match self.store.read_statistics(&query).await {
            Ok(rows) => rows,
            Err(error) => return Answer::failed(&error),
        };
        if i64::try_from(rows.len()).is_ok_and(|count| count > MAX_SUMS) {
            let message = format!(
                "More than {MAX_SUMS} sums: name a shorter time or a campaign_id, or group by less"
            );
            return Answer::error(StatusCode::BAD_REQUEST, "too_many_groups", &message);
        }
        let shown = Shown {
            has_clicks: query.counts_clicks(),
            groups: groups(rows, query.group_by.is_empty()),
            group_by: query.group_by,
            zone,
        };
        shown.answer(format)
    }
}

/// Puts the sums of a group together. Of everything there is one group even if it is empty.
fn groups(rows: Vec<StatisticsRow>, is_whole: bool) -> BTreeMap<Vec<GroupValue>, Group> {
    let mut groups: BTreeMap<_, Group> = BTreeMap::new();
    if is_whole {
        groups.insert(Vec::new(), Group::default());
    }
    for row in rows {
        let group = groups.entry(row.group).or_default();
        match row.counted {
            Counted::Clicks(clicks) => group.clicks += clicks,
            Counted::Conversions {
                currency,
                status,
                count,
                revenue_micros,
            } => {
                let sums = group.currencies.entry(currency).or_default();
                let place = Status::ALL.iter().position(|known| known.word() == status);
                if let Some(sum) = place.and_then(|place| sums.get_mut(place)) {
                    sum.0 += count;
                    sum.1 += revenue_micros;
                }
            }
        }
    }
    groups
}

impl Shown {
    fn answer(&self, format: Format) -> Answer {
        let mut body = Vec::new();
        match format {
            Format::Json => {
                let rows: Vec<Row> = self.groups.iter().map(|one| self.row(one)).collect();
                let whole: Row = vec![
                    ("status", Cell::Text("ok".to_owned())),
                    ("tz", Cell::Text(self.zone.name().to_owned())),
                    ("stats", Cell::rows(&rows)),
                ];
                write_json(&whole, &mut body);
                return Answer::json(StatusCode::OK, body, "ok");
            }
            Format::Ndjson => {
                for group in &self.groups {
                    write_json(&self.row(group), &mut body);
                    body.push(b'\n');
                }
            }
            Format::Csv => {
                let mut names: Vec<_> = self.group_by.iter().map(|by| name(*by)).collect();
                names.extend(["clicks", "conversion_rate"]);
                if !self.group_by.contains(&Dimension::Currency) {
                    names.push("currency");
                }
                names.extend(SUMS);
                write_header(&names, &mut body);
                for group in &self.groups {
                    self.lines(group, &mut body);
                }
            }
        }
        Answer::whole_as(body, format, "stats")
    }

    fn group_cells(&self, values: &[GroupValue]) -> Row {
        let cells = self.group_by.iter().zip(values).map(|(by, value)| {
            let cell = match (by, value) {
                (Dimension::Day, GroupValue::Number(day)) => Cell::Text(times::day(*day)),
                (Dimension::Hour, GroupValue::Number(second)) => {
                    let at = Timestamp::from_second(*second).unwrap_or_default();
                    Cell::Text(self.zone.show(at))
                }
                (_, GroupValue::Number(number)) => Cell::number(number),
                (Dimension::Event | Dimension::Subid(_), GroupValue::Text(text))
                    if text.is_empty() =>
                {
                    Cell::Null
                }
                (_, GroupValue::Text(text)) => Cell::Text(text.clone()),
            };
            (name(*by), cell)
        });
        cells.collect()
    }

    fn clicks(&self, group: &Group) -> [(&'static str, Cell); 2] {
        let clicks = self.has_clicks.then(|| Cell::number(group.clicks));
        let rate = (self.has_clicks && group.clicks > 0)
            .then(|| Cell::amount(rate(group.count(0), group.clicks)));
        [("clicks", clicks.into()), ("conversion_rate", rate.into())]
    }

    /// As JSON: a group with its currencies.
    fn row(&self, (values, group): (&Vec<GroupValue>, &Group)) -> Row {
        let mut row = self.group_cells(values);
        row.extend(self.clicks(group));
        for (place, name) in SUMS[..Status::ALL.len()].iter().enumerate() {
            row.push((name, Cell::number(group.count(place))));
        }
        let currencies: Vec<Row> = group
            .currencies
            .iter()
            .map(|(currency, sums)| {
                let mut row: Row = vec![("currency", Cell::Text(currency.clone()))];
                row.extend(sum_cells(sums));
                row
            })
            .collect();
        row.push(("currencies", Cell::rows(&currencies)));
        row
    }

    /// As CSV: a line for each currency of a group. What isn't of a currency stands in the first
    /// line only, so that columns can be summed.
    fn lines(&self, (values, group): (&Vec<GroupValue>, &Group), into: &mut Vec<u8>) {
        let nothing = (String::new(), Sums::default());
        let mut currencies: Vec<(&String, &Sums)> = group.currencies.iter().collect();
        if currencies.is_empty() {
            currencies.push((&nothing.0, &nothing.1));
        }
        for (number, (currency, sums)) in currencies.into_iter().enumerate() {
            let mut line = self.group_cells(values);
            let clicks = self.clicks(group);
            line.extend(clicks.map(|(name, cell)| match number {
                0 => (name, cell),
                _ => (name, Cell::Null),
            }));
            if !self.group_by.contains(&Dimension::Currency) {
                line.push(("currency", Cell::Text(currency.clone())));
            }
            line.extend(sum_cells(sums));
            write_csv(&line, into);
        }
    }
}

/// The cells of sums: counts by status, then revenue by status.
const SUMS: [&str; 8] = [
    "conversions",
    "pending",
    "rejected",
    "reversed",
    "revenue",
    "revenue_pending",
    "revenue_rejected",
    "revenue_reversed",
];

fn sum_cells(sums: &Sums) -> impl Iterator<Item = (&'static str, Cell)> {
    let counts = sums.iter().map(|(count, _)| Cell::number(count));
    let revenues = sums.iter().map(|(_, micros)| Cell::amount(*micros));
    SUMS.into_iter().zip(counts.chain(revenues))
}

/// Conversions per click in millionths, rounded half up.
fn rate(conversions: i64, clicks: i64) -> i128 {
    let (conversions, clicks) = (i128::from(conversions), i128::from(clicks));
    (conversions * 2_000_000 + clicks) / (2 * clicks)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_once() {
        let both = dimensions("day, campaign,subid3").unwrap();
        assert_eq!(
            both,
            [Dimension::Day, Dimension::Campaign, Dimension::Subid(3)]
        );
        for text in ["", "day,hour", "site,site_id", "subid5", "week", "day,"] {
            assert!(dimensions(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_rounded_to_six_digits() {
        assert_eq!(rate(1, 3), 333_333);
        assert_eq!(rate(2, 3), 666_667);
        assert_eq!(rate(1, 2_000_000), 1);
        assert_eq!(rate(0, 5), 0);
    }
}
