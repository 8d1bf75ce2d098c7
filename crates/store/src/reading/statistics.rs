//! Clicks and conversions, counted and summed.
//!
//! Sums are kept per quarter of an hour as conversions are written: without site and source, and
//! with them. What neither knows (events, subids, the time of the click, single ids) is summed
//! from the conversions themselves. All three say the same.

use super::conversions::{conditions, time};
use super::sql::{Engine, Fields, Param, Sql, filter};
use super::{
    Campaigns, ConversionFilter, Counted, DateOf, Dimension, GroupValue, StatisticsQuery,
    StatisticsRow,
};
use crate::StoreError;
use postern_core::status::Status;

/// Where sums come from.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Kept {
    Totals,
    Sites,
    Conversions,
}

const DAY: i64 = 24 * 60 * 60;
const HOUR: i64 = 60 * 60;
const MICROS_PER_UNIT: i128 = 1_000_000;

fn source_of(query: &StatisticsQuery) -> Kept {
    let filter = &query.filter;
    let conversions_only = filter.date == DateOf::Click
        || filter.clickid.is_some()
        || filter.external_id.is_some()
        || filter.event.is_some()
        || filter.subids.iter().any(Option::is_some)
        || query
            .group_by
            .iter()
            .any(|by| matches!(by, Dimension::Event | Dimension::Subid(_)));
    if conversions_only {
        Kept::Conversions
    } else if asks_for_sites(query) {
        Kept::Sites
    } else {
        Kept::Totals
    }
}

impl StatisticsQuery {
    /// Whether clicks are counted: not where it is asked for what they don't have.
    #[must_use]
    pub fn counts_clicks(&self) -> bool {
        let ConversionFilter {
            campaigns: _,
            range: _,
            date: _,
            site_id: _,
            source: _,
            clickid,
            external_id,
            currency,
            event,
            status,
            subids,
        } = &self.filter;
        let asked = [clickid, external_id, currency, event];
        asked.into_iter().chain(subids).all(Option::is_none)
            && status.is_none()
            && self.group_by.iter().all(|by| {
                matches!(
                    by,
                    Dimension::Campaign
                        | Dimension::Day
                        | Dimension::Hour
                        | Dimension::Site
                        | Dimension::Source
                )
            })
    }
}

fn asks_for_sites(query: &StatisticsQuery) -> bool {
    query.filter.site_id.is_some()
        || query.filter.source.is_some()
        || query
            .group_by
            .iter()
            .any(|by| matches!(by, Dimension::Site | Dimension::Source))
}

/// The statement; its first columns are the groups.
pub(crate) fn statistics(engine: Engine, query: &StatisticsQuery) -> Sql {
    let mut sql = Sql::new(engine);
    let mut text = summed(&mut sql, query);
    if query.counts_clicks() {
        let clicks = counted(&mut sql, query);
        text = format!("{text} UNION ALL {clicks}");
    }
    let limit = sql.param(Param::Integer(query.limit));
    sql.text = format!("SELECT * FROM ({text}) AS s LIMIT {limit}");
    sql
}

fn summed(sql: &mut Sql, query: &StatisticsQuery) -> String {
    match source_of(query) {
        Kept::Totals => totals(sql, query),
        Kept::Sites => {
            let mut conditions = kept_conditions(sql, &query.filter);
            if let Some(status) = query.filter.status {
                conditions.push(sql.text_is("v.status", status.word()));
            }
            let sums = [
                "sum(v.conversions)",
                "sum(v.revenue_whole)",
                "sum(v.revenue_micros)",
            ];
            // A row whose conversions all went to other statuses counts nothing.
            grouped(
                sql,
                query,
                "conversion_stats v",
                "v.bucket",
                &conditions,
                sums,
            ) + " HAVING sum(v.conversions) <> 0"
        }
        Kept::Conversions => {
            let mut conditions = conditions(sql, &query.filter);
            conditions.extend(of_campaigns(sql, &query.filter.campaigns));
            let at = format!("v.{}", time(query.filter.date));
            let sums = [
                "count(*)",
                "sum(v.revenue_micros / 1000000)",
                "sum(v.revenue_micros % 1000000)",
            ];
            grouped(sql, query, "current_conversions v", &at, &conditions, sums)
        }
    }
}

/// Conditions on what is kept per bucket, but for the status.
fn kept_conditions(sql: &mut Sql, asked: &ConversionFilter) -> Vec<String> {
    let mut conditions = Vec::new();
    sql.in_range("v.bucket", asked.range, &mut conditions);
    for (column, text) in [
        ("v.site_id", &asked.site_id),
        ("v.source", &asked.source),
        ("v.currency", &asked.currency),
    ] {
        if let Some(text) = text {
            conditions.push(sql.text_is(column, text));
        }
    }
    conditions.extend(of_campaigns(sql, &asked.campaigns));
    conditions
}

/// Sums by group, currency and status.
fn grouped(
    sql: &Sql,
    query: &StatisticsQuery,
    table: &str,
    at: &str,
    conditions: &[String],
    sums: [&str; 3],
) -> String {
    let [count, whole, micros] = sums.map(|sum| whole(sql, sum));
    let groups = groups(sql, query, at);
    let places = places(groups.len(), &["v.currency", "v.status"]);
    let groups: String = groups.iter().map(|group| format!("{group}, ")).collect();
    format!(
        "SELECT {groups}v.currency, v.status, {count}, {whole}, {micros} FROM {table}{} \
         GROUP BY {places}",
        filter(conditions)
    )
}

/// A sum as an integer: on PostgreSQL those of bigint are numeric.
fn whole(sql: &Sql, sum: &str) -> String {
    match sql.engine {
        Engine::Postgres => format!("({sum})::bigint"),
        Engine::Sqlite => sum.to_owned(),
    }
}

/// The totals have columns for each status, which become rows when they are summed.
fn totals(sql: &mut Sql, query: &StatisticsQuery) -> String {
    let conditions = kept_conditions(sql, &query.filter);
    let groups = groups(sql, query, "v.bucket");
    let named: String = groups
        .iter()
        .enumerate()
        .map(|(number, group)| format!("{group} AS g{number}, "))
        .collect();
    let names: String = (0..groups.len())
        .map(|number| format!("t.g{number}, "))
        .collect();
    let places = places(groups.len(), &["v.currency"]);
    let columns = |end: &str| Status::ALL.map(|status| format!("{}{end}", status.word()));
    let sums: Vec<String> = ["", "_whole", "_micros"]
        .iter()
        .flat_map(|end| columns(end))
        .map(|column| format!("{} AS {column}", whole(sql, &format!("sum(v.{column})"))))
        .collect();
    let [count, units, micros] = ["", "_whole", "_micros"].map(|end| {
        let cases: String = Status::ALL
            .iter()
            .map(|status| format!(" WHEN '{status}' THEN t.{status}{end}"))
            .collect();
        format!("CASE s.status{cases} END")
    });
    let statuses: Vec<String> = Status::ALL
        .iter()
        .filter(|status| query.filter.status.is_none_or(|asked| asked == **status))
        .map(|status| format!("SELECT '{status}' AS status"))
        .collect();
    format!(
        "SELECT {names}t.currency, s.status, {count}, {units}, {micros} \
           FROM (SELECT {named}v.currency, {} FROM conversion_totals v{} GROUP BY {places}) AS t \
           CROSS JOIN ({}) AS s \
          WHERE {count} <> 0",
        sums.join(", "),
        filter(&conditions),
        statuses.join(" UNION ALL ")
    )
}

fn counted(sql: &mut Sql, query: &StatisticsQuery) -> String {
    let asked = &query.filter;
    let table = match asks_for_sites(query) {
        true => "click_stats v",
        false => "click_totals v",
    };
    // Where clicks are counted, no currency is asked for.
    let conditions = kept_conditions(sql, asked);
    let groups = groups(sql, query, "v.bucket");
    let places = match groups.is_empty() {
        true => String::new(),
        false => format!(" GROUP BY {}", places(groups.len(), &[])),
    };
    let groups: String = groups.iter().map(|group| format!("{group}, ")).collect();
    let count = sql.word("(sum(v.clicks))::bigint", "sum(v.clicks)");
    let (none, zero) = (sql.word("NULL::text", "NULL"), sql.word("0::bigint", "0"));
    format!(
        "SELECT {groups}{none}, {none}, coalesce({count}, 0), {zero}, {zero} FROM {table}{}{places}",
        filter(&conditions)
    )
}

fn of_campaigns(sql: &mut Sql, campaigns: &Campaigns) -> Option<String> {
    match campaigns {
        Campaigns::All => None,
        Campaigns::Only(ids) => match ids.as_slice() {
            [id] => {
                let param = sql.param(Param::Integer(*id));
                Some(format!("v.campaign_id = {param}"))
            }
            ids => Some(sql.one_of("v.campaign_id", Param::Integers(ids.to_vec()))),
        },
    }
}

/// The expressions of the groups.
fn groups(sql: &Sql, query: &StatisticsQuery, at: &str) -> Vec<String> {
    let mut groups = Vec::with_capacity(query.group_by.len());
    for by in &query.group_by {
        let group = match by {
            Dimension::Campaign => "v.campaign_id".to_owned(),
            Dimension::Site => "v.site_id".to_owned(),
            Dimension::Source => "v.source".to_owned(),
            Dimension::Currency => "v.currency".to_owned(),
            Dimension::Event => "v.event".to_owned(),
            Dimension::Subid(number) => format!("coalesce(v.subid{number}, '')"),
            Dimension::Day => {
                let local = local(sql, at, &query.offsets);
                format!("{} / {DAY}", start(&local, DAY))
            }
            Dimension::Hour => {
                let offset = offset(sql, at, &query.offsets);
                let local = local(sql, at, &query.offsets);
                format!("{} - {offset}", start(&local, HOUR))
            }
        };
        groups.push(group);
    }
    groups
}

/// GROUP BY of the first `groups` columns and the ones named.
fn places(groups: usize, others: &[&str]) -> String {
    let mut places: Vec<String> = (1..=groups).map(|place| place.to_string()).collect();
    places.extend(others.iter().map(|&other| other.to_owned()));
    places.join(", ")
}

/// Seconds since 1970, UTC.
fn seconds(sql: &Sql, at: &str) -> String {
    match sql.engine {
        Engine::Postgres => format!("floor(date_part('epoch', {at}))::bigint"),
        Engine::Sqlite => {
            let micros = 1_000_000;
            format!("(({at} - (({at} % {micros}) + {micros}) % {micros}) / {micros})")
        }
    }
}

fn local(sql: &Sql, at: &str, offsets: &[(i64, i64)]) -> String {
    format!("({} + {})", seconds(sql, at), offset(sql, at, offsets))
}

/// How far local time is ahead of UTC then. Numbers, not parameters: they are ours.
fn offset(sql: &Sql, at: &str, offsets: &[(i64, i64)]) -> String {
    let Some((&(_, first), later)) = offsets.split_first() else {
        return "0".to_owned();
    };
    if later.is_empty() {
        return first.to_string();
    }
    let seconds = seconds(sql, at);
    // The latest first: that is where most rows are.
    let cases: String = later
        .iter()
        .rev()
        .map(|(from, offset)| format!(" WHEN {seconds} >= {from} THEN {offset}"))
        .collect();
    format!("(CASE{cases} ELSE {first} END)")
}

/// The first second of the `step` that a local second lies in, before 1970 too.
fn start(local: &str, step: i64) -> String {
    format!("({local} - (({local} % {step}) + {step}) % {step})")
}

impl StatisticsRow {
    pub(crate) fn read(query: &StatisticsQuery, row: &impl Fields) -> Result<Self, StoreError> {
        let mut group = Vec::with_capacity(query.group_by.len());
        for (index, by) in query.group_by.iter().enumerate() {
            group.push(match by {
                Dimension::Campaign | Dimension::Day | Dimension::Hour => {
                    GroupValue::Number(row.integer(index)?)
                }
                _ => GroupValue::Text(row.text(index)?),
            });
        }
        let after = query.group_by.len();
        let count = row.integer(after + 2)?;
        let counted = match row.maybe_text(after)? {
            None => Counted::Clicks(count),
            Some(currency) => Counted::Conversions {
                currency,
                status: row.text(after + 1)?,
                count,
                revenue_micros: i128::from(row.integer(after + 3)?) * MICROS_PER_UNIT
                    + i128::from(row.integer(after + 4)?),
            },
        };
        Ok(Self { group, counted })
    }
}
