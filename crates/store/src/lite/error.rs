//! From SQLite's result codes to ours.

use crate::StoreError;
use libsql::Error;

const GENERIC: i32 = 1;
const INTERRUPT: i32 = 9;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;

/// The error of a statement. As with PostgreSQL, what isn't known to be for ever counts as
/// passing: a full disk, a file in use, a read error.
pub(super) fn of(error: Error) -> StoreError {
    let Error::SqliteFailure(code, message) = &error else {
        return StoreError::Unavailable(Box::new(error));
    };
    // The low byte is the class, the rest its kind.
    match code & 0xff {
        // Only what people ask is ever interrupted.
        INTERRUPT => StoreError::TooSlow,
        TOO_BIG | CONSTRAINT | MISMATCH => StoreError::Refused(Box::new(error)),
        GENERIC if message.contains("no such ") || message.contains("has no column") => {
            StoreError::Schema(format!("{message}: run postern migrate of this release"))
        }
        _ => StoreError::Unavailable(Box::new(error)),
    }
}
