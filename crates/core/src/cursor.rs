//! The place in a list at which a page ended, as callers carry it to the next one. Of no use to
//! them otherwise.

use crate::ids::RequestId;
use jiff::Timestamp;
use uuid::Uuid;

/// A row's time and id: what lists are ordered by.
pub type Place = (Timestamp, RequestId);

/// Writes it. `kind` says of which list: another one must not take it.
#[must_use]
pub fn write(kind: u8, (at, id): Place) -> String {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&at.as_microsecond().to_be_bytes());
    bytes.extend_from_slice(id.as_uuid().as_bytes());
    hex::encode(bytes)
}

/// Reads what [`write`] wrote.
///
/// # Errors
///
/// What a cursor must be.
pub fn read(kind: u8, text: &str) -> Result<Place, &'static str> {
    const WRONG: &str = "must be the next_cursor of an answer to the same question";
    let bytes = hex::decode(text).map_err(|_| WRONG)?;
    let (micros, id) = match bytes.split_first() {
        Some((first, rest)) if *first == kind => rest.split_first_chunk::<8>().ok_or(WRONG)?,
        _ => return Err(WRONG),
    };
    let at = Timestamp::from_microsecond(i64::from_be_bytes(*micros)).map_err(|_| WRONG)?;
    let id = Uuid::from_slice(id).map_err(|_| WRONG)?;
    Ok((at, RequestId::from_uuid(id)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_place_in_its_own_list() {
        let id = RequestId::parse("0193ab1e-7c5a-7000-8000-000000000001").unwrap();
        let place = ("2026-11-01T10:00:00.123456Z".parse().unwrap(), id);
        let cursor = write(b'c', place);
        assert_eq!(read(b'c', &cursor), Ok(place));
        for other in ["", "zz", "63", &cursor[2..], &format!("{cursor}00")] {
            assert!(read(b'c', other).is_err(), "{other}");
        }
        assert!(read(b'k', &cursor).is_err());
    }
}
