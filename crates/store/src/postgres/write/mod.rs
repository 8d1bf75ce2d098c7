//! What is written: a batch in one transaction, and the rows that stand on their own.

mod columns;
mod log;
mod steps;
mod totals;

use super::connection::{Flight, Lease};
use super::{error, read};
use crate::{
    Batch, RefusedPostback, RejectsAdvance, StoreError, Topics, fence, statistics, topics,
};
use columns::{Clicks, ConversionSums, Conversions};
use log::Log;
use postern_core::decision::PartitionState;
use postern_core::ids::RequestId;
use postern_failpoint::failpoint;
use steps::{Changes, Positions, Statuses, Waiting};
use tokio_postgres::types::ToSql;
use totals::ConversionTotals;

pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// [`read::PARTITIONS`], locked in ascending order: two transactions with the same partitions
/// wait for each other instead of deadlocking.
const LOCK_PARTITIONS: &str = "\
SELECT partition, version, clicks, postbacks, sequence, published, unmatched
  FROM partitions WHERE partition = ANY($1) ORDER BY partition FOR UPDATE";

const CREATE_PARTITIONS: &str = "\
INSERT INTO partitions (partition, version, clicks, postbacks, sequence, published, unmatched)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                     $6::bigint[], $7::bigint[]) AS t(partition)
 ORDER BY partition
ON CONFLICT (partition) DO NOTHING";

const REMOVE_UNMATCHED: &str = "DELETE FROM unmatched WHERE request_id = ANY($1)";

const REMOVE_REFUSED: &str =
    "DELETE FROM postback_log WHERE request_id = ANY($1) AND outcome = 'refused'";

const FIRST_REJECTS_POSITION: &str = "\
INSERT INTO rejects_positions (partition, position) VALUES ($1, $2)
ON CONFLICT (partition) DO NOTHING";

const MOVE_REJECTS_POSITION: &str = "\
UPDATE rejects_positions SET position = $2 WHERE partition = $1 AND position = $3";

/// One part of a batch: a set-based statement and its arrays.
trait Part {
    const SQL: &'static str;
    /// Whether there is nothing to write.
    fn is_empty(&self) -> bool;
    /// The arrays, in the order of the statement's parameters.
    fn params(&self) -> Vec<&(dyn ToSql + Sync)>;
}

/// Puts `part` into the flight, unless it is empty. Preparing happens once per connection, before
/// anything of the flight is sent.
async fn board<'a, P: Part>(
    flight: &mut Flight<'a>,
    lease: &'a Lease,
    part: &'a P,
) -> Result<(), StoreError> {
    if part.is_empty() {
        return Ok(());
    }
    let statement = lease.prepare_cached(P::SQL).await.map_err(error::of)?;
    flight.push(statement, part.params());
    Ok(())
}

pub(super) async fn commit(lease: &Lease, batch: &Batch) -> Result<(), StoreError> {
    let advances = fence::in_order(batch)?;
    let writes = &batch.writes;
    let clicks = Clicks::of(&writes.clicks, batch.slot);
    let conversions = Conversions::of(&writes.conversions);
    let statuses = Statuses::of(&writes.statuses);
    let summed = statistics::conversions(writes);
    let sums = ConversionSums::of(&summed);
    let totals = ConversionTotals::of(&statistics::conversion_totals(&summed), batch.slot);
    let log = Log::of(&writes.log);
    let changes = Changes::of(&writes.changes);
    let waiting = Waiting::of(&writes.unmatched_added);
    let uuids = |ids: &[RequestId]| ids.iter().map(|id| id.as_uuid()).collect::<Vec<_>>();
    let removed = uuids(&writes.unmatched_removed);
    let removed = [&removed as &(dyn ToSql + Sync)];
    let unrefused = uuids(&writes.unrefused);
    let unrefused = [&unrefused as &(dyn ToSql + Sync)];
    let positions = Positions::of(&advances);

    // Everything is prepared before the transaction begins: the first flight after a connection
    // was made would else hold the rows locked for as long as that takes.
    let mut flight = Flight::new(lease);
    board(&mut flight, lease, &clicks).await?;
    board(&mut flight, lease, &conversions).await?;
    board(&mut flight, lease, &statuses).await?;
    board(&mut flight, lease, &sums).await?;
    board(&mut flight, lease, &totals).await?;
    if !writes.unrefused.is_empty() {
        let statement = lease
            .prepare_cached(REMOVE_REFUSED)
            .await
            .map_err(error::of)?;
        flight.push(statement, unrefused.to_vec());
    }
    board(&mut flight, lease, &log).await?;
    board(&mut flight, lease, &changes).await?;
    board(&mut flight, lease, &waiting).await?;
    if !writes.unmatched_removed.is_empty() {
        // After those that were added: a click of one partition may heal a postback of another
        // that the same batch brought.
        let statement = lease
            .prepare_cached(REMOVE_UNMATCHED)
            .await
            .map_err(error::of)?;
        flight.push(statement, removed.to_vec());
    }
    board(&mut flight, lease, &positions).await?;
    flight.push_plain("COMMIT");

    let lock = lease
        .prepare_cached(LOCK_PARTITIONS)
        .await
        .map_err(error::of)?;
    let keys: Vec<i32> = advances
        .iter()
        .map(|advance| advance.expected.partition)
        .collect();
    let keys: [&(dyn ToSql + Sync); 1] = [&keys];
    // Polled in this order, so sent in this order.
    let (_, rows) = tokio::try_join!(
        biased;
        lease.batch_execute(BEGIN),
        lease.query(&lock, &keys),
    )
    .map_err(error::of)?;
    let found = rows
        .iter()
        .map(read::partition)
        .collect::<Result<Vec<_>, _>>()?;
    fence::compare(&advances, &found)?;
    failpoint!("store.locked", |_| Err(StoreError::Unavailable(
        "failpoint".into()
    )));
    failpoint!("store.refuses", |_| Err(StoreError::Refused(
        "failpoint".into()
    )));
    flight.land().await?;
    failpoint!("store.committed", |_| Err(StoreError::Unavailable(
        "failpoint".into()
    )));
    Ok(())
}

pub(super) async fn create_partitions(
    lease: &Lease,
    rows: &[PartitionState],
) -> Result<Vec<PartitionState>, StoreError> {
    let columns = Positions::of_rows(rows.iter());
    let statement = lease
        .prepare_cached(CREATE_PARTITIONS)
        .await
        .map_err(error::of)?;
    lease
        .execute(&statement, &columns.params())
        .await
        .map_err(error::of)?;
    // A statement of its own: it sees what another process created in between.
    let keys: Vec<i32> = rows.iter().map(|row| row.partition).collect();
    read::partitions(lease, &keys).await
}

pub(super) async fn record_topics(lease: &Lease, found: &Topics) -> Result<(), StoreError> {
    let recorded = lease
        .rows(
            topics::RECORD,
            &[&found.partitions, &found.clicks_id, &found.postbacks_id],
        )
        .await?;
    if !recorded.is_empty() {
        return Ok(());
    }
    let recorded = recorded_topics(lease).await?;
    Err(topics::mismatch(recorded.as_ref().unwrap_or(found), found))
}

/// The recorded topics, if any are.
pub(super) async fn recorded_topics(lease: &Lease) -> Result<Option<Topics>, StoreError> {
    let rows = lease.rows(topics::READ, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Topics {
        partitions: row.try_get(0).map_err(error::of)?,
        clicks_id: row.try_get(1).map_err(error::of)?,
        postbacks_id: row.try_get(2).map_err(error::of)?,
    }))
}

pub(super) async fn commit_rejects(
    lease: &Lease,
    advance: &RejectsAdvance,
    refused: &[RefusedPostback],
) -> Result<(), StoreError> {
    let log = log::Refused(Log::of_refused(refused));
    let mut flight = Flight::new(lease);
    board(&mut flight, lease, &log).await?;
    flight.push_plain("COMMIT");

    let (sql, params): (_, &[&(dyn ToSql + Sync)]) = match &advance.expected {
        None => (FIRST_REJECTS_POSITION, &[&advance.partition, &advance.next]),
        Some(expected) => (
            MOVE_REJECTS_POSITION,
            &[&advance.partition, &advance.next, expected],
        ),
    };
    let statement = lease.prepare_cached(sql).await.map_err(error::of)?;
    let (_, moved) = tokio::try_join!(
        biased;
        lease.batch_execute(BEGIN),
        lease.execute(&statement, params),
    )
    .map_err(error::of)?;
    if moved != 1 {
        return Err(StoreError::Fenced {
            partition: advance.partition,
        });
    }
    flight.land().await
}
