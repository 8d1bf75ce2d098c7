//! From PostgreSQL's errors to ours, by SQLSTATE.

use crate::StoreError;
use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::WrongType;

/// The error of a statement.
///
/// What isn't known to be for ever counts as passing: trying again costs little, giving a batch
/// up costs much.
pub(super) fn of(error: Error) -> StoreError {
    match verdict(&error) {
        Verdict::Refused => StoreError::Refused(Box::new(error)),
        Verdict::Schema(why) => {
            StoreError::Schema(format!("{why}: run postern migrate of this release"))
        }
        Verdict::Unavailable => StoreError::Unavailable(Box::new(error)),
    }
}

/// The error of getting a connection: whatever it is, it can pass.
pub(super) fn of_pool(error: PoolError) -> StoreError {
    StoreError::Unavailable(match error {
        // Its text says no more than the error beneath it.
        PoolError::Backend(error) => Box::new(error),
        other => Box::new(other),
    })
}

enum Verdict {
    Refused,
    Schema(String),
    Unavailable,
}

fn verdict(error: &Error) -> Verdict {
    let Some(database) = error.as_db_error() else {
        return match std::error::Error::source(error) {
            // A column has another type than this release's.
            Some(cause) if cause.is::<WrongType>() => Verdict::Schema(error.to_string()),
            _ => Verdict::Unavailable,
        };
    };
    let state = database.code();
    if is_schema(state) {
        return Verdict::Schema(database.message().to_owned());
    }
    // Class 22 is data that no column takes (NUL in text, a number out of range), 23 a constraint,
    // 54 a value over a limit of the server's, such as an index row's length.
    match state.code().get(..2) {
        Some("22" | "23" | "54") => Verdict::Refused,
        _ => Verdict::Unavailable,
    }
}

fn is_schema(state: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::DATATYPE_MISMATCH,
        // ON CONFLICT names an index that isn't there.
        SqlState::INVALID_COLUMN_REFERENCE,
    ]
    .contains(state)
}
