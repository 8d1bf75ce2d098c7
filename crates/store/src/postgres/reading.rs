//! What reports ask, and access tokens.

use super::connection::Lease;
use super::error;
use super::read::get;
use crate::reading::sql::{Engine, Fields, Param, Sql};
use crate::reading::{
    self, ConversionFilter, LogFilter, LogStep, Page, ShownConversion, ShownPostback,
    StatisticsQuery, StatisticsRow, StatusEntry,
};
use crate::{AccessToken, StoreError, parts, tokens};
use jiff::Timestamp;
use postern_core::ids::RequestId;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

impl Fields for Row {
    fn integer(&self, index: usize) -> Result<i64, StoreError> {
        get(self, index)
    }

    fn maybe_integer(&self, index: usize) -> Result<Option<i64>, StoreError> {
        get(self, index)
    }

    fn text(&self, index: usize) -> Result<String, StoreError> {
        get(self, index)
    }

    fn maybe_text(&self, index: usize) -> Result<Option<String>, StoreError> {
        get(self, index)
    }

    fn time(&self, index: usize) -> Result<Timestamp, StoreError> {
        get(self, index)
    }

    fn maybe_time(&self, index: usize) -> Result<Option<Timestamp>, StoreError> {
        get(self, index)
    }

    fn id(&self, index: usize) -> Result<RequestId, StoreError> {
        get(self, index).map(RequestId::from_uuid)
    }

    fn maybe_id(&self, index: usize) -> Result<Option<RequestId>, StoreError> {
        let id: Option<Uuid> = get(self, index)?;
        Ok(id.map(RequestId::from_uuid))
    }
}

type Value = (Box<dyn ToSql + Sync + Send>, Type);

fn value(param: Param) -> Value {
    match param {
        Param::Integer(integer) => (Box::new(integer), Type::INT8),
        Param::Text(text) => (Box::new(text), Type::TEXT),
        Param::Time(at) => (Box::new(at), Type::TIMESTAMPTZ),
        Param::Id(id) => (Box::new(id.as_uuid()), Type::UUID),
        Param::Integers(integers) => (Box::new(integers), Type::INT8_ARRAY),
        Param::Ids(ids) => {
            let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
            (Box::new(ids), Type::UUID_ARRAY)
        }
    }
}

/// Not a statement that is kept: there are as many as combinations of filters, and each is planned
/// for its values.
async fn rows<T>(
    lease: &Lease,
    sql: Sql,
    read: impl Fn(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let values: Vec<Value> = sql.params.into_iter().map(value).collect();
    let params: Vec<(&(dyn ToSql + Sync), Type)> = values
        .iter()
        .map(|(value, kind)| (value.as_ref() as &(dyn ToSql + Sync), kind.clone()))
        .collect();
    let rows = lease.query_typed(&sql.text, &params).await;
    rows.map_err(of_query)?.iter().map(read).collect()
}

fn of_query(error: tokio_postgres::Error) -> StoreError {
    match error.code() {
        Some(&SqlState::QUERY_CANCELED) => StoreError::TooSlow,
        _ => error::of(error),
    }
}

pub(super) async fn conversions(
    lease: &Lease,
    filter: &ConversionFilter,
    page: Page,
    history: bool,
) -> Result<Vec<ShownConversion>, StoreError> {
    let page = reading::conversions(Engine::Postgres, filter, page);
    let mut found = rows(lease, page, ShownConversion::read).await?;
    if history && !found.is_empty() {
        let sql = reading::history(Engine::Postgres, &found);
        let entries = rows(lease, sql, StatusEntry::read).await?;
        reading::add_history(&mut found, entries);
    }
    Ok(found)
}

pub(super) async fn statistics(
    lease: &Lease,
    query: &StatisticsQuery,
) -> Result<Vec<StatisticsRow>, StoreError> {
    let sql = reading::statistics(Engine::Postgres, query);
    rows(lease, sql, |row| StatisticsRow::read(query, row)).await
}

pub(super) async fn log(
    lease: &Lease,
    filter: &LogFilter,
    page: Page,
    history: bool,
) -> Result<Vec<ShownPostback>, StoreError> {
    let page = reading::log(Engine::Postgres, filter, page);
    let mut found = rows(lease, page, ShownPostback::read).await?;
    if history && !found.is_empty() {
        let sql = reading::changes(Engine::Postgres, &found);
        let steps = rows(lease, sql, LogStep::read).await?;
        reading::add_steps(&mut found, steps);
    }
    Ok(found)
}

pub(super) async fn add_token(lease: &Lease, token: &AccessToken) -> Result<(), StoreError> {
    let (advertiser, campaigns) = parts::grant_columns(&token.grant);
    let role = token.grant.role();
    let params: [&(dyn ToSql + Sync); 9] = [
        &token.token_id,
        &token.digest,
        &role,
        &advertiser,
        &campaigns,
        &token.name,
        &token.created_at,
        &token.expires_at,
        &token.revoked_at,
    ];
    lease.rows(tokens::ADD, &params).await.map(drop)
}

pub(super) async fn token(lease: &Lease, id: &str) -> Result<Option<AccessToken>, StoreError> {
    let rows = lease.rows(tokens::ONE, &[&id]).await?;
    rows.first().map(tokens::read).transpose()
}

pub(super) async fn tokens(lease: &Lease) -> Result<Vec<AccessToken>, StoreError> {
    let rows = lease.rows(tokens::ALL, &[]).await?;
    rows.iter().map(tokens::read).collect()
}

pub(super) async fn revoke_token(
    lease: &Lease,
    id: &str,
    at: Timestamp,
) -> Result<Option<AccessToken>, StoreError> {
    let rows = lease.rows(tokens::REVOKE, &[&at, &id]).await?;
    rows.first().map(tokens::read).transpose()
}

pub(super) async fn campaigns_of(lease: &Lease, advertiser: &str) -> Result<Vec<i64>, StoreError> {
    let rows = lease.rows(tokens::CAMPAIGNS_OF, &[&advertiser]).await?;
    rows.iter().map(|row| get(row, 0)).collect()
}
