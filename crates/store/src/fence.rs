//! The fence: what a commit's partitions must look like before anything is written.

use crate::{Advance, Batch, StoreError};
use postern_core::decision::PartitionState;

/// The batch's partitions in the order in which they are locked.
///
/// # Errors
///
/// [`StoreError::Refused`] for a batch without partitions, or with one twice: nothing would
/// prove that its writer owns what it writes.
pub(crate) fn in_order(batch: &Batch) -> Result<Vec<&Advance>, StoreError> {
    let mut advances: Vec<&Advance> = batch.advances.iter().collect();
    advances.sort_by_key(|advance| advance.expected.partition);
    let twice = advances
        .windows(2)
        .any(|pair| pair[0].expected.partition == pair[1].expected.partition);
    let moved = advances
        .iter()
        .any(|advance| advance.expected.partition != advance.next.partition);
    if advances.is_empty() || twice || moved {
        return Err(StoreError::Refused(
            "a batch moves at least one partition, each of them once".into(),
        ));
    }
    Ok(advances)
}

/// Compares the locked rows with what the worker believes, both ascending.
///
/// # Errors
///
/// [`StoreError::Fenced`] names the first partition that differs or has no row.
pub(crate) fn compare(advances: &[&Advance], found: &[PartitionState]) -> Result<(), StoreError> {
    let mut found = found.iter();
    for advance in advances {
        let row = found.find(|row| row.partition >= advance.expected.partition);
        if row != Some(&advance.expected) {
            return Err(StoreError::Fenced {
                partition: advance.expected.partition,
            });
        }
    }
    Ok(())
}
