//! A queue on disk: what is appended is fsynced before it counts, read back in order, and let go
//! when somebody else has it.
//!
//! A directory of segments, each a header and records; a record is its length, its checksum, a
//! sequence number, the time of its append and the payload, of which nothing is known here.
//! Appends of many callers share one write and one fsync. A segment goes when all of it has been
//! released, so what the files take is what `max_bytes` bounds. Where reading on is concerned, a
//! crash costs nothing but records that are read a second time.
//!
//! What holds no whole record (a crash in the middle of a write, a damaged disk) is copied to
//! `set-aside/` and reported; the records before and after it are used.

mod error;
mod files;
mod format;
mod inspect;
mod open;
mod state;
mod writer;

pub use error::SpoolError;
pub use inspect::{Inspected, inspect, set_aside};
pub use open::{Opened, SetAside};
pub use state::{Entry, Spool, Status};

use std::path::PathBuf;

/// Where a spool lies, and how large it may get.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its directory; made where it doesn't exist.
    pub directory: PathBuf,
    /// Bytes that its segments may take.
    pub max_bytes: u64,
}

impl SpoolOptions {
    /// Length at which a segment is closed: small against the whole, since a segment's room is
    /// free only when all of it has been released.
    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 16).clamp(64 * 1024, 16 * 1024 * 1024)
    }
}

#[cfg(test)]
mod tests;
