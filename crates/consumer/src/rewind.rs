//! Standalone's own log may end before the store's positions: the embedded broker commits without
//! waiting for the disk, so a power failure can take its last records with it.

use postern_core::decision::{PartitionState, Writes};
use postern_kafka::{CLICKS, KafkaError, POSTBACKS, TopicAdmin};
use postern_store::{Advance, Batch, Store, StoreError};
use std::collections::BTreeMap;

/// The events of so many conversions per partition are published again after a rewind: the log
/// that lost postbacks has lost events too. More than fit into what SQLite keeps unsynced.
const EVENTS: i64 = 10_000;

/// Why the positions could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes positions beyond the end of the embedded log back to its end. To be called before
/// anything is published: new records would take the offsets of the lost ones, and never be
/// read. Gives how many partitions were concerned.
///
/// # Errors
///
/// [`RewindError`].
pub async fn rewind(store: &dyn Store, topics: &TopicAdmin) -> Result<usize, RewindError> {
    let ends = |topic| -> Result<BTreeMap<i32, i64>, KafkaError> {
        let ends = tokio::task::block_in_place(|| topics.ends(topic))?;
        Ok(ends
            .into_iter()
            .map(|end| (end.partition, end.end))
            .collect())
    };
    let (clicks, postbacks) = (ends(CLICKS)?, ends(POSTBACKS)?);
    let partitions: Vec<i32> = postbacks.keys().copied().collect();
    let back = |position: i64, ends: &BTreeMap<i32, i64>, partition: i32| {
        position.min(ends.get(&partition).copied().unwrap_or(position))
    };
    let mut advances = Vec::new();
    for expected in store.partitions(&partitions).await? {
        let next = PartitionState {
            clicks: back(expected.clicks, &clicks, expected.partition),
            postbacks: back(expected.postbacks, &postbacks, expected.partition),
            ..expected
        };
        if next != expected {
            let next = PartitionState {
                published: expected.published.min(expected.sequence - EVENTS).max(0),
                ..next
            };
            tracing::warn!(
                partition = expected.partition,
                clicks_lost = expected.clicks - next.clicks,
                postbacks_lost = expected.postbacks - next.postbacks,
                "the embedded log ends before the position: its last records were lost with the \
                 power; what the store had of them stays; reading on from the log's end"
            );
            advances.push(Advance { expected, next });
        }
    }
    let count = advances.len();
    if count > 0 {
        let writes = Writes::default();
        store
            .commit(&Batch {
                advances,
                writes,
                slot: 0,
            })
            .await?;
    }
    Ok(count)
}
