//! Looking at a spool without touching it, also while a process uses it.

use crate::SpoolError;
use crate::files::{self, Position, SET_ASIDE};
use crate::format;
use jiff::Timestamp;
use std::path::{Path, PathBuf};

/// What a directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// Segments.
    pub segments: usize,
    /// Bytes that they take.
    pub bytes: u64,
    /// Records that weren't released: number, time and payload, in order.
    pub records: Vec<(u64, Timestamp, Vec<u8>)>,
    /// Bytes in segments that hold no record. The last ones of a spool in use may be in the
    /// middle of being written.
    pub damaged: u64,
    /// Bytes that were set aside earlier.
    pub set_aside: u64,
}

/// The files that were set aside, by name.
///
/// # Errors
///
/// The directory can't be read.
pub fn set_aside(directory: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let directory = directory.join(SET_ASIDE);
    let failed = |error: std::io::Error| SpoolError::directory(&directory, &error);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let paths: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = paths.map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Reads all of a spool. Holds its payloads in memory.
///
/// # Errors
///
/// The directory can't be read.
pub fn inspect(directory: &Path) -> Result<Inspected, SpoolError> {
    let failed = |error: std::io::Error| SpoolError::directory(directory, &error);
    let position = Position::load(directory);
    let mut inspected = Inspected::default();
    for (first, path) in files::segments(directory).map_err(failed)? {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // Released meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(SpoolError::directory(path, &error)),
        };
        inspected.segments += 1;
        inspected.bytes += bytes.len() as u64;
        let Some(scan) = format::scan(&bytes) else {
            inspected.damaged += bytes.len() as u64;
            continue;
        };
        inspected.damaged += scan
            .damaged
            .iter()
            .map(|range| range.len() as u64)
            .sum::<u64>();
        let released = position
            .filter(|position| position.segment == first && bytes[8..].starts_with(&position.id))
            .map_or(0, |position| position.offset);
        if released > 0 {
            // Everything before this segment was released too.
            inspected.records.clear();
        }
        for found in scan.records {
            if (found.start as u64) < released {
                continue;
            }
            if let Some(record) = format::decode(&bytes[found.start..found.end]) {
                let payload = record.payload.to_vec();
                inspected
                    .records
                    .push((record.sequence, record.at, payload));
            }
        }
    }
    inspected.set_aside = set_aside(directory)?
        .iter()
        .filter_map(|path| Some(path.metadata().ok()?.len()))
        .sum();
    Ok(inspected)
}
