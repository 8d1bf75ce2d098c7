//! Old rows go, a few at a time.

use super::connection::Lease;
use super::error;
use super::read::{get, request_id};
use crate::expiry;
use crate::{Aging, Expiring, StoreError};
use jiff::Timestamp;
use postern_core::ids::RequestId;

/// Rows that somebody else has locked are left for the next time.
const EXPIRE_CLICKS: &str = "\
WITH old AS (
    SELECT clickid FROM clicks WHERE clicked_at < $1
     ORDER BY clicked_at LIMIT $2 FOR UPDATE SKIP LOCKED)
DELETE FROM clicks USING old WHERE clicks.clickid = old.clickid";

const EXPIRE_LOG: &str = "\
WITH old AS (
    SELECT request_id FROM postback_log WHERE received_at < $1
     ORDER BY received_at, request_id LIMIT $2 FOR UPDATE SKIP LOCKED),
changes AS (
    DELETE FROM postback_changes c USING old WHERE c.request_id = old.request_id)
DELETE FROM postback_log USING old WHERE postback_log.request_id = old.request_id";

const UNMATCHED_BEFORE: &str = "\
SELECT request_id FROM unmatched WHERE partition = $1 AND received_at < $2
 ORDER BY received_at LIMIT $3";

pub(super) async fn expire(
    lease: &Lease,
    what: Expiring,
    before: Timestamp,
    most: i64,
) -> Result<u64, StoreError> {
    let sql = match what {
        Expiring::Clicks => EXPIRE_CLICKS,
        Expiring::Log => EXPIRE_LOG,
    };
    let statement = lease.prepare_cached(sql).await.map_err(error::of)?;
    lease
        .execute(&statement, &[&before, &most])
        .await
        .map_err(error::of)
}

pub(super) async fn oldest(lease: &Lease, what: Aging) -> Result<Option<Timestamp>, StoreError> {
    let rows = lease.rows(expiry::oldest(what), &[]).await?;
    rows.first().map_or(Ok(None), |row| get(row, 0))
}

pub(super) async fn longest_window(lease: &Lease) -> Result<i64, StoreError> {
    let rows = lease.rows(expiry::LONGEST_WINDOW, &[]).await?;
    let longest: Option<i64> = rows.first().map_or(Ok(None), |row| get(row, 0))?;
    Ok(longest.unwrap_or(0))
}

pub(super) async fn unmatched_before(
    lease: &Lease,
    partition: i32,
    before: Timestamp,
    most: i64,
) -> Result<Vec<RequestId>, StoreError> {
    let rows = lease
        .rows(UNMATCHED_BEFORE, &[&partition, &before, &most])
        .await?;
    rows.iter().map(|row| request_id(row, 0)).collect()
}
