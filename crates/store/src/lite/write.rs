//! What is written: a batch in one transaction, row by row through one prepared statement per
//! table, which is what SQLite does best.

use super::lane::Session;
use super::read;
use crate::statistics::{ClickKey, ConversionKey, ConversionSum};
use crate::{
    Batch, RefusedPostback, RejectsAdvance, StoreError, Topics, fence, parts, statistics, topics,
};
use jiff::Timestamp;
use libsql::Value;
use postern_core::decision::{
    Change, LogEntry, PartitionState, PlacedClick, StatusChange, Unmatched,
};
use postern_core::ids::RequestId;
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::Origin;
use postern_failpoint::failpoint;
use std::collections::BTreeMap;

const CREATE_PARTITION: &str = "\
INSERT INTO partitions (partition, version, clicks, postbacks, sequence, published, unmatched)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (partition) DO NOTHING";

const MOVE_PARTITION: &str = "\
UPDATE partitions SET version = ?2, clicks = ?3, postbacks = ?4, sequence = ?5, published = ?6,
       unmatched = ?7
 WHERE partition = ?1";

const INSERT_CLICK: &str = "\
INSERT INTO clicks (clickid, campaign_id, site_id, source, publisher_id, traffic_log_id,
                    clicked_at, kafka_partition, kafka_offset)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (clickid) DO NOTHING";

const ADD_CLICKS: &str = "\
INSERT INTO click_stats (campaign_id, bucket, site_id, source, partition, clicks)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (campaign_id, bucket, site_id, source, partition)
DO UPDATE SET clicks = clicks + excluded.clicks";

const ADD_CLICK_TOTALS: &str = "\
INSERT INTO click_totals (campaign_id, bucket, slot, clicks) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (campaign_id, bucket, slot) DO UPDATE SET clicks = clicks + excluded.clicks";

const INSERT_CONVERSION: &str = "\
INSERT INTO conversions (conversion_id, clickid, event, campaign_id, site_id, source, publisher_id,
    traffic_log_id, revenue_micros, currency, currency_sent, external_id, subid0, subid1, subid2,
    subid3, subid4, created_at, clicked_at, policy_version, kafka_partition, sequence, status,
    dedupe)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
    ?21, ?22, ?23, ?24)";

const INSERT_STATUS: &str = "\
INSERT INTO conversion_statuses (conversion_id, status_at, status_id, status, policy_version,
                                 kafka_partition, sequence)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const ADD_CONVERSIONS: &str = "\
INSERT INTO conversion_stats (campaign_id, bucket, site_id, source, currency, status, partition,
                              conversions, revenue_whole, revenue_micros)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (campaign_id, bucket, site_id, source, currency, status, partition)
DO UPDATE SET conversions = conversions + excluded.conversions,
              revenue_whole = revenue_whole + excluded.revenue_whole,
              revenue_micros = revenue_micros + excluded.revenue_micros";

const ADD_CONVERSION_TOTALS: &str = "\
INSERT INTO conversion_totals (campaign_id, bucket, currency, slot,
    approved, approved_whole, approved_micros,
    pending, pending_whole, pending_micros,
    rejected, rejected_whole, rejected_micros,
    reversed, reversed_whole, reversed_micros)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
ON CONFLICT (campaign_id, bucket, currency, slot) DO UPDATE SET
    approved = approved + excluded.approved,
    approved_whole = approved_whole + excluded.approved_whole,
    approved_micros = approved_micros + excluded.approved_micros,
    pending = pending + excluded.pending,
    pending_whole = pending_whole + excluded.pending_whole,
    pending_micros = pending_micros + excluded.pending_micros,
    rejected = rejected + excluded.rejected,
    rejected_whole = rejected_whole + excluded.rejected_whole,
    rejected_micros = rejected_micros + excluded.rejected_micros,
    reversed = reversed + excluded.reversed,
    reversed_whole = reversed_whole + excluded.reversed_whole,
    reversed_micros = reversed_micros + excluded.reversed_micros";

/// Used with and without [`ONCE`].
const INSERT_LOG: &str = "\
INSERT INTO postback_log (request_id, received_at, outcome, reason, message, clickid, campaign_id,
    conversion_id, policy_version, revenue_micros, revenue_raw, currency, currency_sent,
    external_id, warnings, method, raw_query, raw_body, address, user_agent, kafka_partition,
    kafka_offset, event, status_word, status, observed)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
    ?21, ?22, ?23, ?24, ?25, ?26)";

/// Known request ids change nothing.
const ONCE: &str = " ON CONFLICT (request_id) DO NOTHING";

const INSERT_CHANGE: &str = "\
INSERT INTO postback_changes (request_id, step, outcome, reason, conversion_id, policy_version,
                              campaign_id, status, detail, observed, received_at)
VALUES (?1, 1 + coalesce((SELECT max(step) FROM postback_changes WHERE request_id = ?1), 0), ?2,
        ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const INSERT_UNMATCHED: &str = "\
INSERT INTO unmatched (request_id, clickid, partition, kafka_offset, received_at, postback)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const REMOVE_UNMATCHED: &str = "DELETE FROM unmatched WHERE request_id = ?1";

const REMOVE_REFUSED: &str =
    "DELETE FROM postback_log WHERE request_id = ?1 AND outcome = 'refused'";

const FIRST_REJECTS_POSITION: &str = "\
INSERT INTO rejects_positions (partition, position) VALUES (?1, ?2)
ON CONFLICT (partition) DO NOTHING";

const MOVE_REJECTS_POSITION: &str = "\
UPDATE rejects_positions SET position = ?2 WHERE partition = ?1 AND position = ?3";

fn id(id: RequestId) -> Value {
    id.to_string().into()
}

pub(super) fn time(at: Timestamp) -> Value {
    at.as_microsecond().into()
}

fn text(text: Option<&str>) -> Value {
    text.into()
}

pub(super) fn commit(session: &Session, batch: &Batch) -> Result<(), StoreError> {
    let advances = fence::in_order(batch)?;
    let writes = &batch.writes;
    session.transaction(|| {
        let keys: Vec<i32> = advances
            .iter()
            .map(|advance| advance.expected.partition)
            .collect();
        fence::compare(&advances, &read::partitions(session, &keys)?)?;
        failpoint!("store.locked", |_| Err(StoreError::Unavailable(
            "failpoint".into()
        )));
        failpoint!("store.refuses", |_| Err(StoreError::Refused(
            "failpoint".into()
        )));

        let inserted = session.each(INSERT_CLICK, writes.clicks.iter().map(click))?;
        let new = writes
            .clicks
            .iter()
            .zip(inserted)
            .filter_map(|(placed, inserted)| (inserted > 0).then_some(placed));
        let counts = statistics::clicks(new);
        session.each(ADD_CLICKS, click_counts(&counts))?;
        session.each(ADD_CLICK_TOTALS, click_totals(&counts, batch.slot))?;
        session.each(
            INSERT_CONVERSION,
            in_time(&writes.conversions, |(.., one)| one.conversion_id).map(conversion),
        )?;
        session.each(INSERT_STATUS, writes.statuses.iter().map(status))?;
        let sums = statistics::conversions(writes);
        session.each(ADD_CONVERSIONS, conversion_sums(&sums))?;
        session.each(ADD_CONVERSION_TOTALS, conversion_totals(&sums, batch.slot))?;
        let unrefused = writes.unrefused.iter();
        session.each(REMOVE_REFUSED, unrefused.map(|gone| vec![id(*gone)]))?;
        session.each(
            INSERT_LOG,
            in_time(&writes.log, |one| one.postback.request_id).map(log),
        )?;
        session.each(INSERT_CHANGE, writes.changes.iter().map(change))?;
        session.each(INSERT_UNMATCHED, writes.unmatched_added.iter().map(waiting))?;
        // After those that were added: a click of one partition may heal a postback of another
        // that the same batch brought.
        let removed = writes.unmatched_removed.iter();
        session.each(REMOVE_UNMATCHED, removed.map(|gone| vec![id(*gone)]))?;
        let moved = advances.iter().map(|advance| {
            partition(&PartitionState {
                version: advance.expected.version + 1,
                ..advance.next
            })
        });
        session.each(MOVE_PARTITION, moved)?;
        failpoint!("store.written", |_| Err(StoreError::Unavailable(
            "failpoint".into()
        )));
        Ok(())
    })?;
    failpoint!("store.committed", |_| Err(StoreError::Unavailable(
        "failpoint".into()
    )));
    Ok(())
}

/// In the order of their ids, which is that of time: in many indexes one then follows the other.
fn in_time<T>(rows: &[T], id: impl Fn(&T) -> RequestId) -> impl Iterator<Item = &T> {
    let mut rows: Vec<&T> = rows.iter().collect();
    rows.sort_unstable_by_key(|row| id(row));
    rows.into_iter()
}

pub(super) fn create_partitions(
    session: &Session,
    rows: &[PartitionState],
) -> Result<Vec<PartitionState>, StoreError> {
    let keys: Vec<i32> = rows.iter().map(|row| row.partition).collect();
    session.transaction(|| {
        session.each(CREATE_PARTITION, rows.iter().map(partition))?;
        read::partitions(session, &keys)
    })
}

pub(super) fn record_topics(session: &Session, found: &Topics) -> Result<(), StoreError> {
    let params = vec![
        Value::from(found.partitions),
        text(found.clicks_id.as_deref()),
        text(found.postbacks_id.as_deref()),
    ];
    let recorded = session.rows(topics::RECORD, params, |_| Ok(()))?;
    if !recorded.is_empty() {
        return Ok(());
    }
    let recorded = recorded_topics(session)?;
    Err(topics::mismatch(recorded.as_ref().unwrap_or(found), found))
}

/// The recorded topics, if any are.
pub(super) fn recorded_topics(session: &Session) -> Result<Option<Topics>, StoreError> {
    let recorded = session.rows(topics::READ, Vec::new(), |columns| {
        Ok(Topics {
            partitions: columns.partition(0)?,
            clicks_id: columns.maybe_text(1)?,
            postbacks_id: columns.maybe_text(2)?,
        })
    })?;
    Ok(recorded.into_iter().next())
}

pub(super) fn commit_rejects(
    session: &Session,
    advance: &RejectsAdvance,
    refused: &[RefusedPostback],
) -> Result<(), StoreError> {
    session.transaction(|| {
        let mut params = vec![Value::from(advance.partition), Value::from(advance.next)];
        let sql = match advance.expected {
            None => FIRST_REJECTS_POSITION,
            Some(expected) => {
                params.push(Value::from(expected));
                MOVE_REJECTS_POSITION
            }
        };
        if session.each(sql, [params])? != [1] {
            return Err(StoreError::Fenced {
                partition: advance.partition,
            });
        }
        let sql = format!("{INSERT_LOG}{ONCE}");
        session.each(&sql, refused.iter().map(refusal)).map(drop)
    })
}

fn partition(row: &PartitionState) -> Vec<Value> {
    vec![
        row.partition.into(),
        row.version.into(),
        row.clicks.into(),
        row.postbacks.into(),
        row.sequence.into(),
        row.published.into(),
        row.unmatched.into(),
    ]
}

fn click(placed: &PlacedClick) -> Vec<Value> {
    let click = &placed.click;
    vec![
        click.clickid.as_str().into(),
        click.campaign_id.into(),
        click.site_id.as_str().into(),
        click.source.as_str().into(),
        click.publisher_id.as_str().into(),
        click.traffic_log_id.as_str().into(),
        time(click.clicked_at),
        placed.partition.into(),
        placed.offset.into(),
    ]
}

fn click_totals(counts: &BTreeMap<ClickKey<'_>, i64>, slot: i32) -> Vec<Vec<Value>> {
    statistics::click_totals(counts)
        .into_iter()
        .map(|((campaign_id, bucket), count)| {
            vec![campaign_id.into(), time(bucket), slot.into(), count.into()]
        })
        .collect()
}

fn click_counts(counts: &BTreeMap<ClickKey<'_>, i64>) -> Vec<Vec<Value>> {
    counts
        .iter()
        .map(|(key, count)| {
            vec![
                key.campaign_id.into(),
                time(key.bucket),
                key.site_id.into(),
                key.source.into(),
                key.partition.into(),
                (*count).into(),
            ]
        })
        .collect()
}

fn conversion((partition, sequence, conversion): &(i32, i64, Conversion)) -> Vec<Value> {
    let mut row = vec![
        id(conversion.conversion_id),
        conversion.clickid.as_str().into(),
        conversion.event.as_str().into(),
        conversion.campaign_id.into(),
        conversion.site_id.as_str().into(),
        conversion.source.as_str().into(),
        conversion.publisher_id.as_str().into(),
        conversion.traffic_log_id.as_str().into(),
        conversion.revenue.micros().into(),
        conversion.currency.as_str().into(),
        conversion.currency_sent.into(),
        text(conversion.external_id.as_deref()),
    ];
    row.extend(conversion.subids.iter().map(|subid| text(subid.as_deref())));
    row.extend([
        time(conversion.created_at),
        time(conversion.clicked_at),
        conversion.policy_version.into(),
        Value::from(*partition),
        Value::from(*sequence),
        conversion.status.word().into(),
        conversion.dedupe.word().into(),
    ]);
    row
}

fn status(change: &StatusChange) -> Vec<Value> {
    let stored = &change.stored;
    vec![
        id(stored.conversion_id),
        time(stored.status_at),
        id(stored.status_id),
        stored.status.word().into(),
        change.policy_version.into(),
        change.partition.into(),
        change.sequence.into(),
    ]
}

fn conversion_totals(
    sums: &BTreeMap<ConversionKey<'_>, ConversionSum>,
    slot: i32,
) -> Vec<Vec<Value>> {
    statistics::conversion_totals(sums)
        .into_iter()
        .map(|((campaign_id, bucket, currency), total)| {
            let mut row = vec![
                campaign_id.into(),
                time(bucket),
                currency.into(),
                slot.into(),
            ];
            for sum in total {
                row.extend([
                    Value::from(sum.conversions),
                    Value::from(sum.revenue_whole),
                    Value::from(sum.revenue_micros),
                ]);
            }
            row
        })
        .collect()
}

fn conversion_sums(sums: &BTreeMap<ConversionKey<'_>, ConversionSum>) -> Vec<Vec<Value>> {
    sums.iter()
        .map(|(key, sum)| {
            vec![
                key.campaign_id.into(),
                time(key.bucket),
                key.site_id.into(),
                key.source.into(),
                key.currency.into(),
                key.status.into(),
                key.partition.into(),
                sum.conversions.into(),
                sum.revenue_whole.into(),
                sum.revenue_micros.into(),
            ]
        })
        .collect()
}

fn log(entry: &LogEntry) -> Vec<Value> {
    let (postback, known) = (&entry.postback, &entry.known);
    let mut row = vec![
        id(postback.request_id),
        time(postback.received_at),
        known.outcome.word().into(),
        text(entry.reason),
        Value::Null,
        postback.clickid.as_str().into(),
        known.outcome.campaign_id().into(),
        known.conversion_id.map(id).into(),
        known.policy_version.into(),
        postback.revenue.micros().into(),
        text(postback.revenue_raw.as_deref()),
        postback.currency.as_str().into(),
        postback.currency_sent.into(),
        text(postback.external_id.as_deref()),
        parts::write_warnings(&postback.warnings).into(),
    ];
    row.extend(origin(&postback.origin));
    row.extend([
        Value::from(entry.partition),
        Value::from(entry.offset),
        text(postback.event.as_deref()),
        text(postback.status.as_ref().map(|said| said.word.as_str())),
        text(parts::status_of(&known.outcome)),
        parts::write_observed(&entry.observed).into(),
    ]);
    row
}

fn refusal(postback: &RefusedPostback) -> Vec<Value> {
    let mut row = vec![
        id(postback.request_id),
        time(postback.received_at),
        parts::REFUSED.into(),
        postback.reason.as_str().into(),
        postback.message.as_str().into(),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::from(0),
    ];
    // Nothing of it was understood: no revenue, currency, external id or warnings.
    row.extend(std::iter::repeat_n(Value::Null, 6));
    row.extend(origin(&postback.origin));
    row.extend(std::iter::repeat_n(Value::Null, 6));
    row
}

fn origin(origin: &Origin) -> [Value; 5] {
    [
        origin.method.as_str().into(),
        origin.raw_query.as_str().into(),
        origin.raw_body.as_str().into(),
        origin.address.as_str().into(),
        origin.user_agent.as_str().into(),
    ]
}

fn change(change: &Change) -> Vec<Value> {
    let known = &change.known;
    vec![
        id(change.request_id),
        known.outcome.word().into(),
        change.reason.into(),
        known.conversion_id.map(id).into(),
        known.policy_version.into(),
        known.outcome.campaign_id().into(),
        text(parts::status_of(&known.outcome)),
        text(change.detail),
        parts::write_observed(&change.observed).into(),
        time(change.received_at),
    ]
}

fn waiting(unmatched: &Unmatched) -> Vec<Value> {
    let postback = &unmatched.postback;
    let record = postback.encode();
    vec![
        id(postback.request_id),
        postback.clickid.as_str().into(),
        unmatched.partition.into(),
        unmatched.offset.into(),
        time(postback.received_at),
        String::from_utf8_lossy(&record).into_owned().into(),
    ]
}
