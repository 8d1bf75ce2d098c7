//! What the store knows.

use super::campaigns;
use super::connection::Lease;
use super::error;
use crate::parts::{self, ConversionRow, OutcomeRow, StoredRow};
use crate::{Logged, Lookup, StoreError};
use postern_core::decision::{PartitionState, Stored, Unmatched, View};
use postern_core::ids::{ClickId, RequestId};
use postern_core::record::click::Click;
use postern_core::record::conversion::Conversion;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

pub(super) const PARTITIONS: &str = "\
SELECT partition, version, clicks, postbacks, sequence, published, unmatched
  FROM partitions WHERE partition = ANY($1) ORDER BY partition";

// What is looked up by keys is looked up key by key: `OFFSET 0` keeps the planner from turning that
// round. Plans are kept, and one that was made while a table was empty would else read all of it for
// each batch, through whatever index, as long as nobody has analyzed what it has grown to. For the
// same reason an id of which other indexes know too is asked for as a range, in order: to an empty
// table all of them are the same, but for the order of the primary key's.

/// The log after the latest step, with the values of the conversion that it names.
const OUTCOMES: &str = "\
SELECT l.request_id, coalesce(c.outcome, l.outcome), l.received_at,
       coalesce(c.conversion_id, l.conversion_id), coalesce(c.policy_version, l.policy_version),
       coalesce(v.campaign_id, c.campaign_id, l.campaign_id),
       coalesce(v.revenue_micros, l.revenue_micros), coalesce(v.currency, l.currency),
       coalesce(c.status, l.status), coalesce(c.detail, l.reason),
       l.clickid, l.warnings::text, l.reason, l.message
  FROM unnest($1::uuid[]) AS k(id)
 CROSS JOIN LATERAL (SELECT * FROM postback_log g
                      WHERE g.request_id >= k.id AND g.request_id <= k.id
                      ORDER BY g.request_id LIMIT 1) l
  LEFT JOIN LATERAL (SELECT s.outcome, s.conversion_id, s.policy_version, s.campaign_id, s.status,
                            s.detail
                       FROM postback_changes s WHERE s.request_id = l.request_id
                      ORDER BY s.step DESC LIMIT 1) c ON true
  LEFT JOIN LATERAL (SELECT o.campaign_id, o.revenue_micros, o.currency FROM conversions o
                      WHERE o.conversion_id >= coalesce(c.conversion_id, l.conversion_id)
                        AND o.conversion_id <= coalesce(c.conversion_id, l.conversion_id)
                      ORDER BY o.conversion_id LIMIT 1) v ON true";

const CLICKS: &str = "\
SELECT c.clickid, c.campaign_id, c.site_id, c.source, c.publisher_id, c.traffic_log_id, c.clicked_at
  FROM unnest($1::text[]) AS k(id)
 CROSS JOIN LATERAL (SELECT * FROM clicks g WHERE g.clickid = k.id COLLATE \"C\" OFFSET 0) c";

const CONVERSIONS: &str = "\
SELECT v.clickid, v.conversion_id, v.campaign_id, v.event, v.external_id, v.dedupe,
       v.revenue_micros, v.currency, v.site_id, v.source, v.created_at, v.status, v.status_at,
       v.status_id, v.kafka_partition, v.sequence
  FROM unnest($1::text[]) AS k(id)
 CROSS JOIN LATERAL (SELECT * FROM current_conversions g
                      WHERE g.clickid = k.id COLLATE \"C\" OFFSET 0) v";

const UNMATCHED: &str = "\
SELECT u.partition, u.kafka_offset, u.postback
  FROM unnest($1::text[]) AS k(id)
 CROSS JOIN LATERAL (SELECT * FROM unmatched g WHERE g.clickid = k.id COLLATE \"C\" OFFSET 0) u
 ORDER BY u.partition, u.kafka_offset";

const UNMATCHED_COUNTS: &str = "\
SELECT u.clickid, count(*)
  FROM unnest($1::text[]) AS k(id)
 CROSS JOIN LATERAL (SELECT * FROM unmatched g WHERE g.clickid = k.id COLLATE \"C\" OFFSET 0) u
 GROUP BY u.clickid";

/// Conversions as they came, and as their statuses changed.
const CONVERSIONS_AFTER: &str = "\
SELECT n.sequence, v.conversion_id, v.clickid, v.event, v.campaign_id, v.site_id, v.source,
       v.publisher_id, v.traffic_log_id, v.revenue_micros, v.currency, v.currency_sent,
       v.external_id, v.subid0, v.subid1, v.subid2, v.subid3, v.subid4, v.created_at,
       v.clicked_at, v.policy_version, v.dedupe, n.status, n.status_at, n.status_id
  FROM ((SELECT sequence, conversion_id, status, created_at AS status_at,
                conversion_id AS status_id
           FROM conversions
          WHERE kafka_partition = $1 AND sequence > $2 ORDER BY sequence LIMIT $3)
        UNION ALL
        (SELECT sequence, conversion_id, status, status_at, status_id
           FROM conversion_statuses
          WHERE kafka_partition = $1 AND sequence > $2 ORDER BY sequence LIMIT $3)) n
  JOIN conversions v ON v.conversion_id = n.conversion_id
 ORDER BY n.sequence LIMIT $3";

const REJECTS_POSITION: &str = "SELECT position FROM rejects_positions WHERE partition = $1";

pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index).map_err(error::of)
}

pub(super) fn request_id(row: &Row, index: usize) -> Result<RequestId, StoreError> {
    get(row, index).map(RequestId::from_uuid)
}

/// Rows for a set of keys; a set that is empty costs nothing.
pub(super) async fn rows<T: ToSql + Sync>(
    lease: &Lease,
    sql: &str,
    keys: &[T],
) -> Result<Vec<Row>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    lease.rows(sql, &[&keys]).await
}

pub(super) fn partition(row: &Row) -> Result<PartitionState, StoreError> {
    Ok(PartitionState {
        partition: get(row, 0)?,
        version: get(row, 1)?,
        clicks: get(row, 2)?,
        postbacks: get(row, 3)?,
        sequence: get(row, 4)?,
        published: get(row, 5)?,
        unmatched: get(row, 6)?,
    })
}

pub(super) async fn partitions(
    lease: &Lease,
    partitions: &[i32],
) -> Result<Vec<PartitionState>, StoreError> {
    let rows = rows(lease, PARTITIONS, partitions).await?;
    rows.iter().map(partition).collect()
}

/// Each once: a key that is asked for twice is found twice.
fn uuids(ids: &[RequestId]) -> Vec<uuid::Uuid> {
    let ids: BTreeSet<_> = ids.iter().map(|id| id.as_uuid()).collect();
    ids.into_iter().collect()
}

fn texts(ids: &[ClickId]) -> Vec<&str> {
    let ids: BTreeSet<_> = ids.iter().map(ClickId::as_str).collect();
    ids.into_iter().collect()
}

/// In two flights: what the second one asks is known after the first.
pub(super) async fn load(lease: &Lease, lookup: &Lookup) -> Result<View, StoreError> {
    let request_ids = uuids(&lookup.request_ids);
    let clickids = texts(&lookup.clickids);
    let clicks = [lookup.clickids.as_slice(), &lookup.fresh].concat();
    let clicks = texts(&clicks);
    let arrived = texts(&lookup.arrived);
    let (outcomes, clicks, conversions, unmatched) = tokio::try_join!(
        rows(lease, OUTCOMES, &request_ids),
        rows(lease, CLICKS, &clicks),
        rows(lease, CONVERSIONS, &clickids),
        rows(lease, UNMATCHED, &arrived),
    )?;
    let mut view = View::default();
    let mut named: BTreeSet<i64> = lookup.campaigns.iter().copied().collect();
    for row in &outcomes {
        let outcome = outcome(row)?;
        let id = request_id(row, 0)?;
        if outcome.outcome == parts::REFUSED {
            view.refused.insert(id);
        } else {
            view.known.insert(id, outcome.known()?);
        }
    }
    for row in &clicks {
        let click = click(row)?;
        named.insert(click.campaign_id);
        view.clicks.insert(click.clickid.clone(), click);
    }
    let mut in_order = Vec::with_capacity(conversions.len());
    for row in &conversions {
        let place: (i32, i64) = (get(row, 14)?, get(row, 15)?);
        in_order.push((place, row));
    }
    in_order.sort_unstable_by_key(|(place, _)| *place);
    for (_, row) in in_order {
        let stored = stored(row)?;
        named.insert(stored.campaign_id);
        let clickid = parts::clickid(get(row, 0)?)?;
        view.conversions.entry(clickid).or_default().push(stored);
    }
    for row in &unmatched {
        let waiting = Unmatched {
            partition: get(row, 0)?,
            offset: get(row, 1)?,
            postback: parts::waiting(get(row, 2)?)?,
        };
        let clickid = waiting.postback.clickid.clone();
        view.unmatched.entry(clickid).or_default().push(waiting);
    }
    // Which these are is known only now. Of a click that is there nobody waits for it.
    let waiting = lookup.waiting.iter();
    let waiting = waiting.filter(|id| !view.clicks.contains_key(*id));
    let waiting: Vec<ClickId> = waiting.cloned().collect();
    let waiting = texts(&waiting);
    let named = Vec::from_iter(named);
    let (counts, campaigns) = tokio::try_join!(
        rows(lease, UNMATCHED_COUNTS, &waiting),
        campaigns::of(lease, &named),
    )?;
    for row in &counts {
        let count: i64 = get(row, 1)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        view.unmatched_counts
            .insert(parts::clickid(get(row, 0)?)?, count);
    }
    for campaign in campaigns {
        let campaign_id = campaign.campaign_id;
        view.campaigns.insert(campaign_id, Arc::new(campaign));
    }
    Ok(view)
}

fn stored(row: &Row) -> Result<Stored, StoreError> {
    StoredRow {
        conversion_id: request_id(row, 1)?,
        campaign_id: get(row, 2)?,
        event: get(row, 3)?,
        external_id: get(row, 4)?,
        dedupe: get(row, 5)?,
        revenue_micros: get(row, 6)?,
        currency: get(row, 7)?,
        site_id: get(row, 8)?,
        source: get(row, 9)?,
        created_at: get(row, 10)?,
        status: get(row, 11)?,
        status_at: get(row, 12)?,
        status_id: request_id(row, 13)?,
    }
    .stored()
}

fn click(row: &Row) -> Result<Click, StoreError> {
    Ok(Click::from_parts(
        parts::clickid(get(row, 0)?)?,
        get(row, 1)?,
        [get(row, 2)?, get(row, 3)?, get(row, 4)?, get(row, 5)?],
        get(row, 6)?,
    ))
}

fn outcome(row: &Row) -> Result<OutcomeRow<'_>, StoreError> {
    let conversion_id: Option<uuid::Uuid> = get(row, 3)?;
    Ok(OutcomeRow {
        outcome: get(row, 1)?,
        received_at: get(row, 2)?,
        conversion_id: conversion_id.map(RequestId::from_uuid),
        policy_version: get(row, 4)?,
        campaign_id: get(row, 5)?,
        revenue_micros: get(row, 6)?,
        currency: get(row, 7)?,
        status: get(row, 8)?,
        detail: get(row, 9)?,
    })
}

pub(super) async fn logged(
    lease: &Lease,
    request_id: RequestId,
) -> Result<Option<Logged>, StoreError> {
    let rows = rows(lease, OUTCOMES, &[request_id.as_uuid()]).await?;
    rows.first()
        .map(|row| outcome(row)?.logged(get(row, 10)?, get(row, 11)?, get(row, 12)?, get(row, 13)?))
        .transpose()
}

pub(super) async fn conversions_after(
    lease: &Lease,
    partition: i32,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, Conversion)>, StoreError> {
    let rows = lease
        .rows(CONVERSIONS_AFTER, &[&partition, &after, &limit])
        .await?;
    rows.iter()
        .map(|row| Ok((get(row, 0)?, conversion(row)?)))
        .collect()
}

fn conversion(row: &Row) -> Result<Conversion, StoreError> {
    ConversionRow {
        conversion_id: request_id(row, 1)?,
        clickid: get(row, 2)?,
        event: get(row, 3)?,
        campaign_id: get(row, 4)?,
        labels: [get(row, 5)?, get(row, 6)?, get(row, 7)?, get(row, 8)?],
        revenue_micros: get(row, 9)?,
        currency: get(row, 10)?,
        currency_sent: get(row, 11)?,
        external_id: get(row, 12)?,
        subids: [
            get(row, 13)?,
            get(row, 14)?,
            get(row, 15)?,
            get(row, 16)?,
            get(row, 17)?,
        ],
        created_at: get(row, 18)?,
        clicked_at: get(row, 19)?,
        policy_version: get(row, 20)?,
        dedupe: get(row, 21)?,
        status: get(row, 22)?,
        status_at: get(row, 23)?,
        status_id: request_id(row, 24)?,
    }
    .conversion()
}

pub(super) async fn rejects_position(
    lease: &Lease,
    partition: i32,
) -> Result<Option<i64>, StoreError> {
    let rows = lease.rows(REJECTS_POSITION, &[&partition]).await?;
    rows.first().map(|row| get(row, 0)).transpose()
}
