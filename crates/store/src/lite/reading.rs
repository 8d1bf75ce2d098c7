//! What reports ask, and access tokens.

use super::lane::{Columns, Session};
use super::write::time;
use crate::reading::sql::{Engine, Fields, Param, Sql};
use crate::reading::{
    self, ConversionFilter, LogFilter, LogStep, Page, ShownConversion, ShownPostback,
    StatisticsQuery, StatisticsRow, StatusEntry,
};
use crate::{AccessToken, StoreError, parts, tokens};
use jiff::Timestamp;
use libsql::Value;
use postern_core::ids::RequestId;
use serde_json::Value as Json;

impl Fields for Columns {
    fn integer(&self, index: usize) -> Result<i64, StoreError> {
        self.integer(place(index))
    }

    fn maybe_integer(&self, index: usize) -> Result<Option<i64>, StoreError> {
        self.maybe_integer(place(index))
    }

    fn text(&self, index: usize) -> Result<String, StoreError> {
        self.text(place(index))
    }

    fn maybe_text(&self, index: usize) -> Result<Option<String>, StoreError> {
        self.maybe_text(place(index))
    }

    fn time(&self, index: usize) -> Result<Timestamp, StoreError> {
        self.time(place(index))
    }

    fn maybe_time(&self, index: usize) -> Result<Option<Timestamp>, StoreError> {
        match self.maybe_integer(place(index))? {
            None => Ok(None),
            Some(_) => self.time(place(index)).map(Some),
        }
    }

    fn id(&self, index: usize) -> Result<RequestId, StoreError> {
        super::read::request_id(self, place(index))
    }

    fn maybe_id(&self, index: usize) -> Result<Option<RequestId>, StoreError> {
        match self.maybe_text(place(index))? {
            None => Ok(None),
            Some(_) => super::read::request_id(self, place(index)).map(Some),
        }
    }
}

fn place(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

fn value(param: &Param) -> Value {
    match param {
        Param::Integer(integer) => (*integer).into(),
        Param::Text(text) => text.as_str().into(),
        Param::Time(at) => time(*at),
        Param::Id(id) => id.to_string().into(),
        Param::Integers(integers) => Json::from(integers.as_slice()).to_string().into(),
        Param::Ids(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            Json::from(ids).to_string().into()
        }
    }
}

fn rows<T>(
    session: &Session,
    sql: &Sql,
    read: impl Fn(&Columns) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    session.rows(&sql.text, sql.params.iter().map(value).collect(), read)
}

pub(super) fn conversions(
    session: &Session,
    filter: &ConversionFilter,
    page: Page,
    history: bool,
) -> Result<Vec<ShownConversion>, StoreError> {
    let page = reading::conversions(Engine::Sqlite, filter, page);
    let mut found = rows(session, &page, ShownConversion::read)?;
    if history && !found.is_empty() {
        let sql = reading::history(Engine::Sqlite, &found);
        let entries = rows(session, &sql, StatusEntry::read)?;
        reading::add_history(&mut found, entries);
    }
    Ok(found)
}

pub(super) fn statistics(
    session: &Session,
    query: &StatisticsQuery,
) -> Result<Vec<StatisticsRow>, StoreError> {
    let sql = reading::statistics(Engine::Sqlite, query);
    rows(session, &sql, |row| StatisticsRow::read(query, row))
}

pub(super) fn log(
    session: &Session,
    filter: &LogFilter,
    page: Page,
    history: bool,
) -> Result<Vec<ShownPostback>, StoreError> {
    let page = reading::log(Engine::Sqlite, filter, page);
    let mut found = rows(session, &page, ShownPostback::read)?;
    if history && !found.is_empty() {
        let sql = reading::changes(Engine::Sqlite, &found);
        let steps = rows(session, &sql, LogStep::read)?;
        reading::add_steps(&mut found, steps);
    }
    Ok(found)
}

pub(super) fn add_token(session: &Session, token: &AccessToken) -> Result<(), StoreError> {
    let (advertiser, campaigns) = parts::grant_columns(&token.grant);
    let row = vec![
        token.token_id.as_str().into(),
        token.digest.as_str().into(),
        token.grant.role().into(),
        advertiser.into(),
        campaigns.into(),
        token.name.as_str().into(),
        time(token.created_at),
        token.expires_at.map(time).into(),
        token.revoked_at.map(time).into(),
    ];
    session.each(tokens::ADD, [row]).map(drop)
}

pub(super) fn token(session: &Session, id: &str) -> Result<Option<AccessToken>, StoreError> {
    let found = session.rows(tokens::ONE, vec![id.into()], tokens::read)?;
    Ok(found.into_iter().next())
}

pub(super) fn tokens(session: &Session) -> Result<Vec<AccessToken>, StoreError> {
    session.rows(tokens::ALL, Vec::new(), tokens::read)
}

pub(super) fn revoke_token(
    session: &Session,
    id: &str,
    at: Timestamp,
) -> Result<Option<AccessToken>, StoreError> {
    let params = vec![time(at), id.into()];
    let found = session.rows(tokens::REVOKE, params, tokens::read)?;
    Ok(found.into_iter().next())
}

pub(super) fn campaigns_of(session: &Session, advertiser: &str) -> Result<Vec<i64>, StoreError> {
    session.rows(tokens::CAMPAIGNS_OF, vec![advertiser.into()], |row| {
        row.integer(0)
    })
}
