//! Money and times as integers, read from the texts of records and answers: written anew here,
//! to hold the product's own against.

/// Millionths of a plain decimal such as `1.20`, rounded half-even to six digits; `None` for
/// other forms.
#[must_use]
pub fn micros(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(6));
    let number: i64 = format!("{whole}{kept:0<6}").parse().ok()?;
    let up = match rest.bytes().next().unwrap_or(b'0') {
        b'0'..=b'4' => false,
        b'5' => rest[1..].bytes().any(|byte| byte != b'0') || number % 2 == 1,
        _ => true,
    };
    number.checked_add(i64::from(up))
}

/// Microseconds since 1970 of RFC 3339, or of `YYYY-MM-DD HH:MM:SS` in UTC. Finer digits are cut.
#[must_use]
pub fn time(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(())?;
        part.parse().ok()
    };
    let at = |place: usize| text.as_bytes().get(place).copied();
    if (at(4), at(7), at(13), at(16)) != (Some(b'-'), Some(b'-'), Some(b':'), Some(b':')) {
        return None;
    }
    let days = days(number(0..4)?, number(5..7)?, number(8..10)?);
    let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let rest = &text[19..];
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(
            rest.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len()),
        ),
        None => ("", rest),
    };
    let fraction: i64 = format!("{:0<6}", &fraction[..fraction.len().min(6)])
        .parse()
        .ok()?;
    let offset = match zone {
        "Z" | "z" | "" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60)
        }
    };
    Some((seconds - offset) * 1_000_000 + fraction)
}

/// `YYYY-MM-DD HH:MM:SS` in UTC, as answers print a time.
#[must_use]
pub fn printed(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The first instant of the quarter of an hour, UTC, that `micros` falls in.
#[must_use]
pub fn quarter(micros: i64) -> i64 {
    const QUARTER: i64 = 15 * 60 * 1_000_000;
    micros - micros.rem_euclid(QUARTER)
}

/// Days from 1970-01-01; the year is counted from March, so that a leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let place = (5 * of_year + 2) / 153;
    let month = if place < 10 { place + 3 } else { place - 9 };
    let day = of_year - (153 * place + 2) / 5 + 1;
    let carry = i64::from(month <= 2);
    (year + era * 400 + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(micros("1.20"), Some(1_200_000));
        assert_eq!(micros(".5"), Some(500_000));
        assert_eq!(
            micros("8999999999999.999999"),
            Some(8_999_999_999_999_999_999)
        );
        assert_eq!(micros("0.30000000000000004"), Some(300_000));
        assert_eq!(micros("0.0000005"), Some(0));
        assert_eq!(micros("0.0000015"), Some(2));
        assert_eq!(micros("0.00000051"), Some(1));
        assert_eq!(
            [micros(""), micros("1e3"), micros("-1"), micros("1,5")],
            [None; 4]
        );
    }

    #[test]
    fn times_go_there_and_back() {
        assert_eq!(time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(time("2025-11-26T14:32:10.25Z"), Some(1_764_167_530_250_000));
        assert_eq!(
            time("2025-11-26T15:32:10.25+01:00"),
            Some(1_764_167_530_250_000)
        );
        assert_eq!(time("2025-11-26 14:32:10"), Some(1_764_167_530_000_000));
        assert_eq!(time("yesterday"), None);
        for text in [
            "1999-12-31 23:59:59",
            "2000-02-29 00:00:00",
            "2024-03-01 12:00:01",
        ] {
            assert_eq!(printed(time(text).unwrap()), text);
        }
        assert_eq!(
            printed(quarter(time("2025-11-26 14:44:59").unwrap())),
            "2025-11-26 14:30:00"
        );
    }
}
