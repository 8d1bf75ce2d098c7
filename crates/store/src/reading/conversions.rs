//! Conversions in pages, and what was said of their statuses.

use super::sql::{Engine, Fields, Param, Sql, Walk};
use super::{ConversionFilter, DateOf, Page, ShownConversion, StatusEntry};
use crate::StoreError;
use postern_core::ids::RequestId;

const SELECT: &str = "\
SELECT v.conversion_id, v.clickid, v.campaign_id, v.site_id, v.source, v.revenue_micros,
       v.currency, v.subid0, v.subid1, v.subid2, v.subid3, v.subid4, v.external_id, v.event,
       v.status, v.created_at, v.clicked_at
  FROM current_conversions v";

/// The statement of a page.
pub(crate) fn conversions(engine: Engine, filter: &ConversionFilter, page: Page) -> Sql {
    let mut sql = Sql::new(engine);
    let common = conditions(&mut sql, filter);
    let is_one = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let few = is_one(&filter.clickid) || is_one(&filter.external_id);
    let walks: Vec<Walk> = sql
        .walks("v.campaign_id", &filter.campaigns, few)
        .into_iter()
        .map(|campaign| Walk {
            select: SELECT.to_owned(),
            table: "v",
            conditions: campaign.into_iter().chain(common.clone()).collect(),
        })
        .collect();
    sql.newest(&walks, (time(filter.date), "conversion_id"), page);
    sql
}

pub(super) fn time(date: DateOf) -> &'static str {
    match date {
        DateOf::Conversion => "created_at",
        DateOf::Click => "clicked_at",
    }
}

/// All conditions but the campaigns, on conversions as `v`.
pub(super) fn conditions(sql: &mut Sql, filter: &ConversionFilter) -> Vec<String> {
    let mut conditions = Vec::new();
    let column = format!("v.{}", time(filter.date));
    sql.in_range(&column, filter.range, &mut conditions);
    let texts = [
        ("v.clickid", &filter.clickid),
        ("v.site_id", &filter.site_id),
        ("v.source", &filter.source),
        ("v.external_id", &filter.external_id),
        ("v.currency", &filter.currency),
        ("v.event", &filter.event),
        ("v.subid0", &filter.subids[0]),
        ("v.subid1", &filter.subids[1]),
        ("v.subid2", &filter.subids[2]),
        ("v.subid3", &filter.subids[3]),
        ("v.subid4", &filter.subids[4]),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            conditions.push(sql.text_is(column, text));
        }
    }
    if let Some(status) = filter.status {
        // A CASE, because PostgreSQL believes that hardly any row passes a comparison with the
        // outcome of an expression, and would then rather sort all than walk in order.
        let is = sql.text_is("v.status", status.word());
        conditions.push(format!("CASE WHEN {is} THEN true ELSE false END"));
    }
    conditions
}

impl ShownConversion {
    pub(crate) fn read(row: &impl Fields) -> Result<Self, StoreError> {
        let mut subids = <[Option<String>; 5]>::default();
        for (subid, index) in subids.iter_mut().zip(7..) {
            *subid = row.maybe_text(index)?;
        }
        Ok(Self {
            conversion_id: row.id(0)?,
            clickid: row.text(1)?,
            campaign_id: row.integer(2)?,
            site_id: row.text(3)?,
            source: row.text(4)?,
            revenue_micros: row.integer(5)?,
            currency: row.text(6)?,
            subids,
            external_id: row.maybe_text(12)?,
            event: row.text(13)?,
            status: row.text(14)?,
            created_at: row.time(15)?,
            clicked_at: row.time(16)?,
            history: Vec::new(),
        })
    }
}

/// The statement of what was said of these conversions' statuses.
pub(crate) fn history(engine: Engine, conversions: &[ShownConversion]) -> Sql {
    let mut sql = Sql::new(engine);
    let ids: Vec<RequestId> = conversions.iter().map(|one| one.conversion_id).collect();
    let one_of = sql.one_of("conversion_id", Param::Ids(ids));
    sql.text = format!(
        "SELECT conversion_id, status, created_at AS status_at, conversion_id AS status_id
           FROM conversions WHERE {one_of}
         UNION ALL
         SELECT conversion_id, status, status_at, status_id
           FROM conversion_statuses WHERE {one_of}
         ORDER BY conversion_id, status_at, status_id"
    );
    sql
}

impl StatusEntry {
    /// With the conversion that it is about.
    pub(crate) fn read(row: &impl Fields) -> Result<(RequestId, Self), StoreError> {
        let entry = Self {
            status: row.text(1)?,
            at: row.time(2)?,
            request_id: row.id(3)?,
        };
        Ok((row.id(0)?, entry))
    }
}
