//! Times as reports print them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time zone by its IANA name.
#[derive(Clone, Debug)]
pub struct Zone {
    pub name: &'static str,
    zone: TimeZone,
}

impl Zone {
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let zone = TimeZone::get(name).unwrap();
        Self { name, zone }
    }

    #[must_use]
    pub fn utc() -> Self {
        Self::new("UTC")
    }

    /// A time; but for UTC with its offset.
    #[must_use]
    pub fn show(&self, micros: i64) -> String {
        self.write(micros, "%Y-%m-%d %H:%M:%S")
    }

    #[must_use]
    pub fn day(&self, micros: i64) -> String {
        let zoned = timestamp(micros).to_zoned(self.zone.clone());
        zoned.strftime("%Y-%m-%d").to_string()
    }

    /// The hour that the clock on the wall shows, minutes taken off.
    #[must_use]
    pub fn hour(&self, micros: i64) -> String {
        self.write(micros, "%Y-%m-%d %H:00:00")
    }

    fn write(&self, micros: i64, form: &str) -> String {
        let zoned = timestamp(micros).to_zoned(self.zone.clone());
        let mut text = zoned.strftime(form).to_string();
        if self.name != "UTC" {
            text.push_str(&zoned.strftime("%:z").to_string());
        }
        text
    }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap()
}

/// An instant in RFC 3339 as microseconds.
#[must_use]
pub fn instant(text: &str) -> i64 {
    let at: Timestamp = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    at.as_microsecond()
}

/// RFC 3339.
#[must_use]
pub fn rfc3339(micros: i64) -> String {
    timestamp(micros).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::CLOCKS_GO_BACK;

    #[test]
    fn an_hour_comes_twice() {
        assert_eq!(instant("2026-10-25T01:00:00Z"), CLOCKS_GO_BACK);
        let berlin = Zone::new("Europe/Berlin");
        assert_eq!(berlin.show(CLOCKS_GO_BACK - 1), "2026-10-25 02:59:59+02:00");
        assert_eq!(berlin.hour(CLOCKS_GO_BACK - 1), "2026-10-25 02:00:00+02:00");
        assert_eq!(berlin.hour(CLOCKS_GO_BACK), "2026-10-25 02:00:00+01:00");
        assert_eq!(Zone::utc().show(CLOCKS_GO_BACK), "2026-10-25 01:00:00");
    }
}
