//! Times as the API prints them and as records carry them.
//!
//! Records and both store engines keep microseconds; whatever is finer is cut when a time
//! enters, so that a time read back equals the time written.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Cuts `at` to whole microseconds, the precision of records and stores.
#[must_use]
pub fn to_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// `YYYY-MM-DD HH:MM:SS` in UTC, the format of the API's `created_at`.
#[must_use]
pub fn api(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Reads a time as click records give it: RFC 3339, or `YYYY-MM-DD HH:MM:SS` taken as UTC.
///
/// Only the years 1970 to 9986 are taken, which every store can hold.
///
/// # Errors
///
/// A sentence that says which forms are read.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    let at = text
        .parse::<Timestamp>()
        .or_else(|_| {
            text.parse::<DateTime>()
                .and_then(|civil| civil.to_zoned(TimeZone::UTC))
                .map(|zoned| zoned.timestamp())
        })
        .map_err(|_| {
            "a time is RFC 3339 (2025-11-26T14:32:10Z) or YYYY-MM-DD HH:MM:SS in UTC".to_owned()
        })?;
    // Far enough from the end of time that every store and every time zone can hold it.
    const END: i64 = 253_000_000_000;
    if at < Timestamp::UNIX_EPOCH || at.as_second() >= END {
        return Err("a time before 1970 or after 9986 is not taken".to_owned());
    }
    Ok(to_micros(at))
}

/// The 15-minute UTC bucket that `at` falls in: its first instant.
#[must_use]
pub fn bucket(at: Timestamp) -> Timestamp {
    const QUARTER: i64 = 15 * 60;
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(QUARTER)).unwrap_or(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_api_prints_seconds_in_utc() {
        let at = parse("2025-11-26T15:32:10.987654+01:00").unwrap();
        assert_eq!(api(at), "2025-11-26 14:32:10");
    }

    #[test]
    fn both_forms_are_read_and_finer_digits_are_cut() {
        let a = parse("2025-11-26 14:32:10").unwrap();
        let b = parse("2025-11-26T14:32:10.0000009Z").unwrap();
        assert_eq!(a, b);
        assert!(parse("yesterday").is_err());
        assert!(parse("1969-12-31T23:59:59Z").is_err());
        assert!(parse("9999-12-30T22:00:00Z").is_err());
    }

    #[test]
    fn buckets_start_at_quarters() {
        let at = parse("2025-11-26T14:44:59.9Z").unwrap();
        assert_eq!(api(bucket(at)), "2025-11-26 14:30:00");
        assert_eq!(bucket(bucket(at)), bucket(at));
    }
}
