//! Old rows go, a few at a time.

use super::lane::Session;
use super::read::request_id;
use super::write::time;
use crate::expiry;
use crate::{Aging, Expiring, StoreError};
use jiff::Timestamp;
use libsql::Value;
use postern_core::ids::RequestId;

const EXPIRE_CLICKS: &str = "\
DELETE FROM clicks WHERE clickid IN (
    SELECT clickid FROM clicks WHERE clicked_at < ?1 ORDER BY clicked_at LIMIT ?2)";

/// The same rows as those of the log, which go after them.
const EXPIRE_CHANGES: &str = "\
DELETE FROM postback_changes WHERE request_id IN (
    SELECT request_id FROM postback_log WHERE received_at < ?1
     ORDER BY received_at, request_id LIMIT ?2)";

const EXPIRE_LOG: &str = "\
DELETE FROM postback_log WHERE request_id IN (
    SELECT request_id FROM postback_log WHERE received_at < ?1
     ORDER BY received_at, request_id LIMIT ?2)";

const UNMATCHED_BEFORE: &str = "\
SELECT request_id FROM unmatched WHERE partition = ?1 AND received_at < ?2
 ORDER BY received_at LIMIT ?3";

pub(super) fn expire(
    session: &Session,
    what: Expiring,
    before: Timestamp,
    most: i64,
) -> Result<u64, StoreError> {
    let params = || vec![time(before), Value::from(most)];
    let delete = |sql| {
        let removed = session.each(sql, [params()])?;
        Ok(removed.iter().map(|count| *count as u64).sum())
    };
    session.transaction(|| match what {
        Expiring::Clicks => delete(EXPIRE_CLICKS),
        Expiring::Log => {
            delete(EXPIRE_CHANGES)?;
            delete(EXPIRE_LOG)
        }
    })
}

pub(super) fn oldest(session: &Session, what: Aging) -> Result<Option<Timestamp>, StoreError> {
    let times = session.rows(expiry::oldest(what), Vec::new(), |columns| {
        match columns.maybe_integer(0)? {
            None => Ok(None),
            Some(_) => columns.time(0).map(Some),
        }
    })?;
    Ok(times.into_iter().flatten().next())
}

pub(super) fn longest_window(session: &Session) -> Result<i64, StoreError> {
    let longest = session.rows(expiry::LONGEST_WINDOW, Vec::new(), |columns| {
        columns.maybe_integer(0)
    })?;
    Ok(longest.into_iter().flatten().next().unwrap_or(0))
}

pub(super) fn unmatched_before(
    session: &Session,
    partition: i32,
    before: Timestamp,
    most: i64,
) -> Result<Vec<RequestId>, StoreError> {
    let params = vec![Value::from(partition), time(before), Value::from(most)];
    session.rows(UNMATCHED_BEFORE, params, |columns| request_id(columns, 0))
}
