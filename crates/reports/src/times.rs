//! Times as people write and read them: in a time zone, dates and timestamps, ranges.

use crate::parameters::Parameters;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use postern_core::time;
use postern_store::reading::Range;

/// Changes of a zone's offset that a question goes by: three hundred years of summer time.
const MAX_OFFSETS: usize = 600;

/// The time zone of a question.
#[derive(Clone, Debug)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// `tz`: an IANA name, UTC where it isn't given.
    pub(crate) fn read(parameters: &mut Parameters) -> Self {
        let zone = parameters.parsed("tz", |name| {
            TimeZone::get(name).map_err(|_| "must be an IANA time zone, like Europe/Berlin")
        });
        Self(zone.unwrap_or(TimeZone::UTC))
    }

    pub(crate) fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// As the API page prints times; but for UTC with the offset, without which an hour of each
    /// autumn would be ambiguous.
    pub(crate) fn show(&self, at: Timestamp) -> String {
        if self.name() == "UTC" {
            return time::api(at);
        }
        at.to_zoned(self.0.clone())
            .strftime("%Y-%m-%d %H:%M:%S%:z")
            .to_string()
    }

    /// `from` and `to`.
    pub(crate) fn range(&self, parameters: &mut Parameters) -> Range {
        let range = Range {
            from: parameters.parsed("from", |text| self.instant(text, false)),
            to: parameters.parsed("to", |text| self.instant(text, true)),
        };
        if let Range {
            from: Some(from),
            to: Some(to),
        } = range
            && from >= to
        {
            parameters.fault("to", "must be later than from");
        }
        range
    }

    /// The same for what is kept per quarter of an hour.
    pub(crate) fn quarters(&self, parameters: &mut Parameters) -> Range {
        let range = self.range(parameters);
        for (name, at) in [("from", range.from), ("to", range.to)] {
            if at.is_some_and(|at| time::bucket(at) != at) {
                parameters.fault(name, "must be at a full quarter of an hour");
            }
        }
        range
    }

    /// A date is its whole day: its beginning, or as an end the beginning of the next.
    fn instant(&self, text: &str, is_end: bool) -> Result<Timestamp, &'static str> {
        const FORMS: &str = "must be a date (2026-11-01), a time in tz (2026-11-01 14:30:00) or a \
                             timestamp with its offset (2026-11-01T14:30:00Z), from 1970 on";
        let at = if let Ok(date) = strict_date(text) {
            let date = match is_end {
                true => date.tomorrow().map_err(|_| FORMS)?,
                false => date,
            };
            let start = date.to_zoned(self.0.clone()).map_err(|_| FORMS)?;
            start.timestamp()
        } else if let Ok(at) = text.replace(' ', "+").parse().or_else(|_| text.parse()) {
            // A plus sign that wasn't percent-encoded is a blank by now.
            at
        } else {
            let civil: DateTime = text.parse().map_err(|_| FORMS)?;
            let zoned = civil.to_zoned(self.0.clone()).map_err(|_| FORMS)?;
            zoned.timestamp()
        };
        // Within what every store holds.
        time::parse(&at.to_string()).map_err(|_| FORMS)
    }

    /// How far the zone is ahead of UTC: seconds, each from an instant on.
    pub(crate) fn offsets(&self, range: Range) -> Vec<(i64, i64)> {
        let from = range.from.unwrap_or(Timestamp::UNIX_EPOCH);
        let horizon = Timestamp::now() + jiff::SignedDuration::from_hours(2 * 365 * 24);
        let to = range.to.map_or(horizon, |to| to.min(horizon));
        let seconds = |at: Timestamp| i64::from(self.0.to_offset(at).seconds());
        let mut offsets = vec![(from.as_second(), seconds(from))];
        let changes = self.0.following(from).take(MAX_OFFSETS);
        for change in changes.take_while(|change| change.timestamp() < to) {
            let offset = i64::from(change.offset().seconds());
            if offsets.last().is_some_and(|(_, last)| *last != offset) {
                offsets.push((change.timestamp().as_second(), offset));
            }
        }
        offsets
    }
}

/// `YYYY-MM-DD` and nothing else: parsing alone would take a time too and forget it.
fn strict_date(text: &str) -> Result<Date, ()> {
    if text.len() != 10 {
        return Err(());
    }
    text.parse().map_err(|_| ())
}

/// The day that statistics number from 1970-01-01.
pub(crate) fn day(number: i64) -> String {
    let day = Timestamp::from_second(number.saturating_mul(24 * 60 * 60));
    day.map_or_else(
        |_| number.to_string(),
        |day| day.strftime("%Y-%m-%d").to_string(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn range(query: &str) -> (Range, Zone, bool) {
        let mut parameters = Parameters::read(query);
        let zone = Zone::read(&mut parameters);
        let range = zone.range(&mut parameters);
        (range, zone, parameters.finish().is_ok())
    }

    fn instants(query: &str) -> [String; 2] {
        let (range, _, good) = range(query);
        assert!(good, "{query}");
        [range.from, range.to].map(|at| at.map_or("-".to_owned(), |at| at.to_string()))
    }

    #[test]
    fn dates_are_whole_days_of_the_zone() {
        assert_eq!(instants(""), ["-", "-"]);
        assert_eq!(
            instants("from=2026-11-01&to=2026-11-30"),
            ["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"]
        );
        // 25 hours: the clocks go back.
        assert_eq!(
            instants("from=2026-10-25&to=2026-10-25&tz=Europe/Berlin"),
            ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]
        );
        // This day begins at one: the clocks go forward at midnight.
        assert_eq!(
            instants("from=2026-04-24&to=2026-04-24&tz=Africa/Cairo"),
            ["2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"]
        );
        assert_eq!(
            instants("from=2026-11-01&to=2026-11-01&tz=Asia/Kathmandu"),
            ["2026-10-31T18:15:00Z", "2026-11-01T18:15:00Z"]
        );
    }

    #[test]
    fn timestamps_are_instants_whichever_way_they_are_written() {
        assert_eq!(
            instants("from=2026-11-01T10:00:00Z&to=2026-11-01+12:00:00&tz=Europe/Berlin"),
            ["2026-11-01T10:00:00Z", "2026-11-01T11:00:00Z"]
        );
        assert_eq!(
            instants("from=2026-11-01T10:00:00%2B02:00&to=2026-11-01T10:00:00+01:00"),
            ["2026-11-01T08:00:00Z", "2026-11-01T09:00:00Z"]
        );
        assert_eq!(
            instants("from=2026-11-01T10:00:00.123456789Z")[0],
            "2026-11-01T10:00:00.123456Z"
        );
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for query in [
            "from=yesterday",
            "from=",
            "from=2026-13-01",
            "from=2026-02-30",
            "to=1969-01-01",
            "from=9999-12-31&to=9999-12-31",
            "from=2026-11-02&to=2026-11-01",
            "from=2026-11-02T00:00:00Z&to=2026-11-02T00:00:00Z",
            "tz=Berlin",
            "tz=",
            "tz=../etc/passwd",
        ] {
            assert!(!range(query).2, "{query}");
        }
    }

    #[test]
    fn times_are_shown_in_the_zone() {
        let at = "2026-10-25T00:30:00Z".parse().unwrap();
        assert_eq!(range("").1.show(at), "2026-10-25 00:30:00");
        let zone = range("tz=europe/berlin").1;
        assert_eq!(zone.name(), "Europe/Berlin");
        assert_eq!(zone.show(at), "2026-10-25 02:30:00+02:00");
        let later = "2026-10-25T01:30:00Z".parse().unwrap();
        assert_eq!(zone.show(later), "2026-10-25 02:30:00+01:00");
    }

    #[test]
    fn offsets_change_with_the_clocks() {
        let (range, zone, _) = range("from=2026-01-01&to=2026-12-31&tz=Europe/Berlin");
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        assert_eq!(
            zone.offsets(range),
            [
                (at("2025-12-31T23:00:00Z"), 3_600),
                (at("2026-03-29T01:00:00Z"), 7_200),
                (at("2026-10-25T01:00:00Z"), 3_600),
            ]
        );
        assert_eq!(Zone(TimeZone::UTC).offsets(range).len(), 1);
        assert!(zone.offsets(Range::default()).len() > 50);
    }
}
