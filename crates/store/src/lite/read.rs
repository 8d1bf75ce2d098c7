//! What the store knows. Sets of keys go in as one JSON array each.

use super::campaigns;
use super::lane::{Columns, Session};
use crate::parts::{self, ConversionRow, OutcomeRow, StoredRow};
use crate::{Logged, Lookup, StoreError};
use libsql::Value;
use postern_core::decision::{PartitionState, Stored, Unmatched, View};
use postern_core::ids::{ClickId, RequestId};
use postern_core::record::click::Click;
use postern_core::record::conversion::Conversion;
use std::collections::BTreeSet;
use std::sync::Arc;

const PARTITIONS: &str = "\
SELECT partition, version, clicks, postbacks, sequence, published, unmatched
  FROM partitions WHERE partition IN (SELECT value FROM json_each(?1)) ORDER BY partition";

/// The log after the latest step, with the values of the conversion that it names.
const OUTCOMES: &str = "\
SELECT l.request_id, coalesce(c.outcome, l.outcome), l.received_at,
       coalesce(c.conversion_id, l.conversion_id), coalesce(c.policy_version, l.policy_version),
       coalesce(v.campaign_id, c.campaign_id, l.campaign_id),
       coalesce(v.revenue_micros, l.revenue_micros), coalesce(v.currency, l.currency),
       coalesce(c.status, l.status), coalesce(c.detail, l.reason),
       l.clickid, l.warnings, l.reason, l.message
  FROM postback_log l
  LEFT JOIN postback_changes c ON c.request_id = l.request_id
        AND c.step = (SELECT max(s.step) FROM postback_changes s WHERE s.request_id = l.request_id)
  LEFT JOIN conversions v ON v.conversion_id = coalesce(c.conversion_id, l.conversion_id)
 WHERE l.request_id IN (SELECT value FROM json_each(?1))";

const CLICKS: &str = "\
SELECT clickid, campaign_id, site_id, source, publisher_id, traffic_log_id, clicked_at
  FROM clicks WHERE clickid IN (SELECT value FROM json_each(?1))";

const CONVERSIONS: &str = "\
SELECT clickid, conversion_id, campaign_id, event, external_id, dedupe, revenue_micros, currency,
       site_id, source, created_at, status, status_at, status_id
  FROM current_conversions WHERE clickid IN (SELECT value FROM json_each(?1))
 ORDER BY kafka_partition, sequence";

const UNMATCHED: &str = "\
SELECT partition, kafka_offset, postback FROM unmatched
 WHERE clickid IN (SELECT value FROM json_each(?1)) ORDER BY partition, kafka_offset";

const UNMATCHED_COUNTS: &str = "\
SELECT clickid, count(*) FROM unmatched
 WHERE clickid IN (SELECT value FROM json_each(?1)) GROUP BY clickid";

/// Conversions as they came, and as their statuses changed.
const CONVERSIONS_AFTER: &str = "\
SELECT n.sequence, v.conversion_id, v.clickid, v.event, v.campaign_id, v.site_id, v.source,
       v.publisher_id, v.traffic_log_id, v.revenue_micros, v.currency, v.currency_sent,
       v.external_id, v.subid0, v.subid1, v.subid2, v.subid3, v.subid4, v.created_at,
       v.clicked_at, v.policy_version, v.dedupe, n.status, n.status_at, n.status_id
  FROM (SELECT * FROM (SELECT sequence, conversion_id, status, created_at AS status_at,
                              conversion_id AS status_id
                         FROM conversions
                        WHERE kafka_partition = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3)
        UNION ALL
        SELECT * FROM (SELECT sequence, conversion_id, status, status_at, status_id
                         FROM conversion_statuses
                        WHERE kafka_partition = ?1 AND sequence > ?2
                        ORDER BY sequence LIMIT ?3)) n
  JOIN conversions v ON v.conversion_id = n.conversion_id
 ORDER BY n.sequence LIMIT ?3";

const REJECTS_POSITION: &str = "SELECT position FROM rejects_positions WHERE partition = ?1";

/// Rows for a set of keys; a set that is empty costs nothing.
pub(super) fn rows<K: Clone + Into<Key>, T>(
    session: &Session,
    sql: &str,
    keys: &[K],
    read: impl Fn(&Columns) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<_> = keys.iter().cloned().map(|key| key.into().0).collect();
    let array = serde_json::Value::from(keys).to_string();
    session.rows(sql, vec![Value::from(array)], read)
}

/// A key as JSON.
pub(super) struct Key(serde_json::Value);

impl From<i32> for Key {
    fn from(key: i32) -> Self {
        Self(key.into())
    }
}

impl From<i64> for Key {
    fn from(key: i64) -> Self {
        Self(key.into())
    }
}

impl From<ClickId> for Key {
    fn from(key: ClickId) -> Self {
        Self(key.as_str().into())
    }
}

impl From<RequestId> for Key {
    fn from(key: RequestId) -> Self {
        Self(key.to_string().into())
    }
}

pub(super) fn request_id(columns: &Columns, index: i32) -> Result<RequestId, StoreError> {
    let text = columns.text(index)?;
    RequestId::parse(&text).map_err(|why| parts::unreadable("request_id", why))
}

pub(super) fn partitions(
    session: &Session,
    partitions: &[i32],
) -> Result<Vec<PartitionState>, StoreError> {
    rows(session, PARTITIONS, partitions, |columns| {
        Ok(PartitionState {
            partition: columns.partition(0)?,
            version: columns.integer(1)?,
            clicks: columns.integer(2)?,
            postbacks: columns.integer(3)?,
            sequence: columns.integer(4)?,
            published: columns.integer(5)?,
            unmatched: columns.integer(6)?,
        })
    })
}

pub(super) fn load(session: &Session, lookup: &Lookup) -> Result<View, StoreError> {
    let mut view = View::default();
    let mut named: BTreeSet<i64> = lookup.campaigns.iter().copied().collect();
    for (request_id, outcome) in rows(session, OUTCOMES, &lookup.request_ids, |columns| {
        Ok((request_id(columns, 0)?, Outcome::read(columns)?))
    })? {
        if outcome.outcome == parts::REFUSED {
            view.refused.insert(request_id);
        } else {
            view.known.insert(request_id, outcome.row().known()?);
        }
    }
    for ids in [&lookup.clickids, &lookup.fresh] {
        for click in rows(session, CLICKS, ids, click)? {
            named.insert(click.campaign_id);
            view.clicks.insert(click.clickid.clone(), click);
        }
    }
    for (clickid, stored) in rows(session, CONVERSIONS, &lookup.clickids, |columns| {
        Ok((parts::clickid(&columns.text(0)?)?, stored(columns)?))
    })? {
        named.insert(stored.campaign_id);
        view.conversions.entry(clickid).or_default().push(stored);
    }
    for campaign in campaigns::of(session, &Vec::from_iter(named))? {
        let campaign_id = campaign.campaign_id;
        view.campaigns.insert(campaign_id, Arc::new(campaign));
    }
    for waiting in rows(session, UNMATCHED, &lookup.arrived, |columns| {
        Ok(Unmatched {
            partition: columns.partition(0)?,
            offset: columns.integer(1)?,
            postback: parts::waiting(&columns.text(2)?)?,
        })
    })? {
        let clickid = waiting.postback.clickid.clone();
        view.unmatched.entry(clickid).or_default().push(waiting);
    }
    for (clickid, count) in rows(session, UNMATCHED_COUNTS, &lookup.waiting, |columns| {
        Ok((parts::clickid(&columns.text(0)?)?, columns.integer(1)?))
    })? {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        view.unmatched_counts.insert(clickid, count);
    }
    Ok(view)
}

fn stored(columns: &Columns) -> Result<Stored, StoreError> {
    StoredRow {
        conversion_id: request_id(columns, 1)?,
        campaign_id: columns.integer(2)?,
        event: &columns.text(3)?,
        external_id: columns.maybe_text(4)?.as_deref(),
        dedupe: &columns.text(5)?,
        revenue_micros: columns.integer(6)?,
        currency: &columns.text(7)?,
        site_id: &columns.text(8)?,
        source: &columns.text(9)?,
        created_at: columns.time(10)?,
        status: &columns.text(11)?,
        status_at: columns.time(12)?,
        status_id: request_id(columns, 13)?,
    }
    .stored()
}

fn click(columns: &Columns) -> Result<Click, StoreError> {
    Ok(Click::from_parts(
        parts::clickid(&columns.text(0)?)?,
        columns.integer(1)?,
        [
            columns.text(2)?,
            columns.text(3)?,
            columns.text(4)?,
            columns.text(5)?,
        ],
        columns.time(6)?,
    ))
}

/// An owned [`OutcomeRow`]: a row of libsql's lends nothing.
struct Outcome {
    outcome: String,
    received_at: jiff::Timestamp,
    conversion_id: Option<RequestId>,
    policy_version: i64,
    campaign_id: Option<i64>,
    revenue_micros: Option<i64>,
    currency: Option<String>,
    status: Option<String>,
    detail: Option<String>,
}

impl Outcome {
    fn read(columns: &Columns) -> Result<Self, StoreError> {
        let conversion_id = match columns.maybe_text(3)? {
            Some(_) => Some(request_id(columns, 3)?),
            None => None,
        };
        Ok(Self {
            outcome: columns.text(1)?,
            received_at: columns.time(2)?,
            conversion_id,
            policy_version: columns.integer(4)?,
            campaign_id: columns.maybe_integer(5)?,
            revenue_micros: columns.maybe_integer(6)?,
            currency: columns.maybe_text(7)?,
            status: columns.maybe_text(8)?,
            detail: columns.maybe_text(9)?,
        })
    }

    fn row(&self) -> OutcomeRow<'_> {
        OutcomeRow {
            outcome: &self.outcome,
            received_at: self.received_at,
            conversion_id: self.conversion_id,
            policy_version: self.policy_version,
            campaign_id: self.campaign_id,
            revenue_micros: self.revenue_micros,
            currency: self.currency.as_deref(),
            status: self.status.as_deref(),
            detail: self.detail.as_deref(),
        }
    }
}

pub(super) fn logged(
    session: &Session,
    request_id: RequestId,
) -> Result<Option<Logged>, StoreError> {
    let rows = rows(session, OUTCOMES, &[request_id], |columns| {
        Outcome::read(columns)?.row().logged(
            columns.maybe_text(10)?.as_deref(),
            columns.maybe_text(11)?.as_deref(),
            columns.maybe_text(12)?,
            columns.maybe_text(13)?,
        )
    })?;
    Ok(rows.into_iter().next())
}

pub(super) fn conversions_after(
    session: &Session,
    partition: i32,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, Conversion)>, StoreError> {
    let params = vec![
        Value::from(partition),
        Value::from(after),
        Value::from(limit),
    ];
    session.rows(CONVERSIONS_AFTER, params, |columns| {
        Ok((columns.integer(0)?, conversion(columns)?))
    })
}

fn conversion(columns: &Columns) -> Result<Conversion, StoreError> {
    ConversionRow {
        conversion_id: request_id(columns, 1)?,
        clickid: columns.text(2)?,
        event: columns.text(3)?,
        campaign_id: columns.integer(4)?,
        labels: [
            columns.text(5)?,
            columns.text(6)?,
            columns.text(7)?,
            columns.text(8)?,
        ],
        revenue_micros: columns.integer(9)?,
        currency: columns.text(10)?,
        currency_sent: columns.integer(11)? != 0,
        external_id: columns.maybe_text(12)?,
        subids: [
            columns.maybe_text(13)?,
            columns.maybe_text(14)?,
            columns.maybe_text(15)?,
            columns.maybe_text(16)?,
            columns.maybe_text(17)?,
        ],
        created_at: columns.time(18)?,
        clicked_at: columns.time(19)?,
        policy_version: columns.integer(20)?,
        dedupe: columns.text(21)?,
        status: columns.text(22)?,
        status_at: columns.time(23)?,
        status_id: request_id(columns, 24)?,
    }
    .conversion()
}

pub(super) fn rejects_position(
    session: &Session,
    partition: i32,
) -> Result<Option<i64>, StoreError> {
    let rows = session.rows(REJECTS_POSITION, vec![Value::from(partition)], |columns| {
        columns.integer(0)
    })?;
    Ok(rows.into_iter().next())
}
