//! The postback log in pages.

use super::sql::{Engine, Fields, Param, Sql, Walk};
use super::{Campaigns, LogFilter, LogStep, Page, ShownPostback};
use crate::StoreError;
use postern_core::ids::RequestId;

/// Of a postback, its log as `l` and its latest step as `c`. Lateral on PostgreSQL: row by row
/// through the index, never by walking through all steps.
const COLUMNS: &str = "\
SELECT l.request_id, l.received_at, coalesce(c.outcome, l.outcome), coalesce(c.detail, l.reason),
       l.message, l.clickid, coalesce(c.campaign_id, l.campaign_id),
       coalesce(c.conversion_id, l.conversion_id), l.revenue_micros, l.currency, l.external_id,
       l.event, l.status_word, l.method, l.raw_query, l.raw_body, l.address, l.user_agent,
       coalesce(c.observed, l.observed), ";
const LATEST_POSTGRES: &str = "l.warnings::text
  FROM postback_log l
  LEFT JOIN LATERAL (SELECT s.outcome, s.conversion_id, s.campaign_id, s.detail, s.observed
                       FROM postback_changes s WHERE s.request_id = l.request_id
                      ORDER BY s.step DESC LIMIT 1) c ON true";
const LATEST_SQLITE: &str = "l.warnings
  FROM postback_log l
  LEFT JOIN postback_changes c ON c.request_id = l.request_id
        AND c.step = (SELECT max(s.step) FROM postback_changes s
                       WHERE s.request_id = l.request_id)";

/// Those whose campaign only a later step knows.
const LATE_POSTGRES: &str = "l.warnings::text
  FROM postback_changes c JOIN postback_log l ON l.request_id = c.request_id";
const LATE_SQLITE: &str = "l.warnings
  FROM postback_changes c JOIN postback_log l ON l.request_id = c.request_id";

/// The statement of a page.
pub(crate) fn log(engine: Engine, filter: &LogFilter, page: Page) -> Sql {
    let mut sql = Sql::new(engine);
    let latest = sql.word(LATEST_POSTGRES, LATEST_SQLITE);
    let late = sql.word(LATE_POSTGRES, LATE_SQLITE);
    let common = conditions(&mut sql, filter);
    let few = filter.request_id.is_some() || filter.clickid.is_some();
    let mut walks = Vec::new();
    for campaign in sql.walks("l.campaign_id", &filter.campaigns, few) {
        let mut conditions = common.clone();
        sql.in_range("l.received_at", filter.range, &mut conditions);
        walks.push(Walk {
            select: format!("{COLUMNS}{latest}"),
            table: "l",
            conditions: campaign.into_iter().chain(conditions).collect(),
        });
    }
    if let Campaigns::Only(_) = filter.campaigns {
        for campaign in sql.walks("c.campaign_id", &filter.campaigns, few) {
            let mut conditions = common.clone();
            sql.in_range("c.received_at", filter.range, &mut conditions);
            conditions.push("l.campaign_id IS NULL".to_owned());
            conditions.push(
                "c.step = (SELECT max(s.step) FROM postback_changes s \
                 WHERE s.request_id = c.request_id)"
                    .to_owned(),
            );
            walks.push(Walk {
                select: format!("{COLUMNS}{late}"),
                table: "c",
                conditions: campaign.into_iter().chain(conditions).collect(),
            });
        }
    }
    sql.newest(&walks, ("received_at", "request_id"), page);
    sql
}

/// All conditions but campaigns and time.
fn conditions(sql: &mut Sql, filter: &LogFilter) -> Vec<String> {
    let mut conditions = Vec::new();
    if let Some(id) = filter.request_id {
        let param = sql.param(Param::Id(id));
        conditions.push(format!("l.request_id = {param}"));
    }
    let texts = [
        ("l.clickid", &filter.clickid),
        ("coalesce(c.outcome, l.outcome)", &filter.outcome),
        ("coalesce(c.detail, l.reason)", &filter.reason),
        ("l.address", &filter.address),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            conditions.push(sql.text_is(column, text));
        }
    }
    if let Some(code) = &filter.warning {
        let param = sql.param(Param::Text(code.clone()));
        let (warnings, warning) = (
            sql.word("json_array_elements(l.warnings)", "json_each(l.warnings)"),
            sql.word("w", "w.value"),
        );
        conditions.push(format!(
            "EXISTS (SELECT 1 FROM {warnings} w WHERE {warning} ->> 'code' = {param})"
        ));
    }
    if let Some(part) = &filter.raw_query {
        let param = sql.param(Param::Text(part.clone()));
        let find = sql.word("strpos", "instr");
        conditions.push(format!("{find}(l.raw_query, {param}) > 0"));
    }
    conditions
}

impl ShownPostback {
    pub(crate) fn read(row: &impl Fields) -> Result<Self, StoreError> {
        Ok(Self {
            request_id: row.id(0)?,
            received_at: row.time(1)?,
            outcome: row.text(2)?,
            reason: row.maybe_text(3)?,
            message: row.maybe_text(4)?,
            clickid: row.maybe_text(5)?,
            campaign_id: row.maybe_integer(6)?,
            conversion_id: row.maybe_id(7)?,
            revenue_micros: row.maybe_integer(8)?,
            currency: row.maybe_text(9)?,
            external_id: row.maybe_text(10)?,
            event: row.maybe_text(11)?,
            status: row.maybe_text(12)?,
            method: row.text(13)?,
            raw_query: row.text(14)?,
            raw_body: row.text(15)?,
            address: row.text(16)?,
            user_agent: row.text(17)?,
            observed: row.maybe_text(18)?,
            warnings: row.maybe_text(19)?,
            history: Vec::new(),
        })
    }
}

/// The statement of the later steps of these postbacks.
pub(crate) fn changes(engine: Engine, postbacks: &[ShownPostback]) -> Sql {
    let mut sql = Sql::new(engine);
    let ids: Vec<RequestId> = postbacks.iter().map(|one| one.request_id).collect();
    let one_of = sql.one_of("request_id", Param::Ids(ids));
    sql.text = format!(
        "SELECT request_id, outcome, reason, detail, conversion_id FROM postback_changes
          WHERE {one_of} ORDER BY request_id, step"
    );
    sql
}

impl LogStep {
    /// With the postback that it is about.
    pub(crate) fn read(row: &impl Fields) -> Result<(RequestId, Self), StoreError> {
        let step = Self {
            outcome: row.text(1)?,
            reason: row.text(2)?,
            detail: row.maybe_text(3)?,
            conversion_id: row.maybe_id(4)?,
        };
        Ok((row.id(0)?, step))
    }
}
