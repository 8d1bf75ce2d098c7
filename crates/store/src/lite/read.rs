//! What the store knows. Sets of keys go in as one JSON array each.

use super::lane::{Columns, Session};
use crate::parts::{self, ConversionRow, OutcomeRow};
use crate::{Logged, Lookup, StoreError};
use libsql::Value;
use postern_core::decision::{PartitionState, Unmatched, View};
use postern_core::ids::{ClickId, RequestId};
use postern_core::record::click::Click;
use postern_core::record::conversion::Conversion;

const PARTITIONS: &str = "\
SELECT partition, version, clicks, postbacks, sequence, published, unmatched
  FROM partitions WHERE partition IN (SELECT value FROM json_each(?1)) ORDER BY partition";

/// The log after the latest step, with the values of the conversion that it names.
const OUTCOMES: &str = "\
SELECT l.request_id, coalesce(c.outcome, l.outcome), l.received_at,
       coalesce(c.conversion_id, l.conversion_id), coalesce(c.policy_version, l.policy_version),
       coalesce(v.campaign_id, l.campaign_id), coalesce(v.revenue_micros, l.revenue_micros),
       coalesce(v.currency, l.currency),
       l.clickid, l.warnings, l.reason, l.message
  FROM postback_log l
  LEFT JOIN postback_changes c ON c.request_id = l.request_id
        AND c.step = (SELECT max(s.step) FROM postback_changes s WHERE s.request_id = l.request_id)
  LEFT JOIN conversions v ON v.conversion_id = coalesce(c.conversion_id, l.conversion_id)
 WHERE l.request_id IN (SELECT value FROM json_each(?1))";

const CLICKS: &str = "\
SELECT k.clickid, k.campaign_id, k.site_id, k.source, k.publisher_id, k.traffic_log_id,
       k.clicked_at, p.version, p.dedupe
  FROM clicks k LEFT JOIN campaigns p ON p.campaign_id = k.campaign_id
 WHERE k.clickid IN (SELECT value FROM json_each(?1))";

const CONVERSIONS: &str = "\
SELECT v.clickid, v.conversion_id, v.campaign_id, coalesce(v.external_id, ''), v.revenue_micros,
       v.currency, p.version, p.dedupe
  FROM conversions v LEFT JOIN campaigns p ON p.campaign_id = v.campaign_id
 WHERE v.clickid IN (SELECT value FROM json_each(?1))
 ORDER BY v.kafka_partition, v.sequence";

const POLICIES: &str = "\
SELECT campaign_id, version, dedupe FROM campaigns
 WHERE campaign_id IN (SELECT value FROM json_each(?1))";

const UNMATCHED: &str = "\
SELECT partition, kafka_offset, postback FROM unmatched
 WHERE clickid IN (SELECT value FROM json_each(?1)) ORDER BY partition, kafka_offset";

const UNMATCHED_COUNTS: &str = "\
SELECT clickid, count(*) FROM unmatched
 WHERE clickid IN (SELECT value FROM json_each(?1)) GROUP BY clickid";

const CONVERSIONS_AFTER: &str = "\
SELECT sequence, conversion_id, clickid, event, campaign_id, site_id, source, publisher_id,
       traffic_log_id, revenue_micros, currency, currency_sent, external_id,
       subid0, subid1, subid2, subid3, subid4, created_at, clicked_at, policy_version
  FROM conversions WHERE kafka_partition = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";

const REJECTS_POSITION: &str = "SELECT position FROM rejects_positions WHERE partition = ?1";

/// Rows for a set of keys; a set that is empty costs nothing.
fn rows<K: Clone + Into<Key>, T>(
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
struct Key(serde_json::Value);

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

/// Version and dedupe policy of a campaign; nothing where it has no settings.
type Settings = Option<(i64, String)>;

fn settings(columns: &Columns, index: i32) -> Result<Settings, StoreError> {
    let Some(version) = columns.maybe_integer(index)? else {
        return Ok(None);
    };
    Ok(Some((version, columns.text(index + 1)?)))
}

fn add_policy(view: &mut View, campaign: i64, settings: Settings) -> Result<(), StoreError> {
    if let Some((version, dedupe)) = settings {
        view.policies
            .insert(campaign, parts::policy(version, &dedupe)?);
    }
    Ok(())
}

pub(super) fn load(session: &Session, lookup: &Lookup) -> Result<View, StoreError> {
    let mut view = View::default();
    for (request_id, outcome) in rows(session, OUTCOMES, &lookup.request_ids, |columns| {
        Ok((request_id(columns, 0)?, Outcome::read(columns)?))
    })? {
        if outcome.outcome != parts::REFUSED {
            view.known.insert(request_id, outcome.row().known()?);
        }
    }
    for (click, settings) in rows(session, CLICKS, &lookup.clickids, |columns| {
        Ok((click(columns)?, settings(columns, 7)?))
    })? {
        add_policy(&mut view, click.campaign_id, settings)?;
        view.clicks.insert(click.clickid.clone(), click);
    }
    for (clickid, stored, settings) in rows(session, CONVERSIONS, &lookup.clickids, |columns| {
        let stored = parts::stored(
            request_id(columns, 1)?,
            columns.integer(2)?,
            columns.text(3)?,
            columns.integer(4)?,
            &columns.text(5)?,
        )?;
        let clickid = parts::clickid(&columns.text(0)?)?;
        Ok((clickid, stored, settings(columns, 6)?))
    })? {
        add_policy(&mut view, stored.campaign_id, settings)?;
        view.conversions.entry(clickid).or_default().push(stored);
    }
    for (campaign, settings) in rows(session, POLICIES, &lookup.campaigns, |columns| {
        Ok((columns.integer(0)?, settings(columns, 1)?))
    })? {
        add_policy(&mut view, campaign, settings)?;
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
        }
    }
}

pub(super) fn logged(
    session: &Session,
    request_id: RequestId,
) -> Result<Option<Logged>, StoreError> {
    let rows = rows(session, OUTCOMES, &[request_id], |columns| {
        Outcome::read(columns)?.row().logged(
            columns.maybe_text(8)?.as_deref(),
            columns.maybe_text(9)?.as_deref(),
            columns.maybe_text(10)?,
            columns.maybe_text(11)?,
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
