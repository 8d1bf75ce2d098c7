//! Money: a revenue as an exact count of millionths.
//!
//! A revenue is parsed once, from the decimal that the caller sent, and from there to the store
//! and back into an answer it is an integer. Nothing here goes through a float, except that a
//! record whose revenue was written as a bare JSON number by somebody else is read by the
//! shortest text of that number.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Fraction digits that a revenue keeps.
const SCALE: usize = 6;
const MICROS_PER_UNIT: u64 = 1_000_000;
const LIMIT: i64 = 9_000_000_000_000_000_000;
/// Decimal digits of [`LIMIT`]: a number with more integer digits, counted in millionths, is over
/// it, and one with as many fits into a `u64`.
const LIMIT_DIGITS: i64 = 19;
/// Exponents beyond this are all the same: the body limit keeps a mantissa far shorter.
const EXPONENT_CAP: i64 = 1_000_000_000_000;

/// A revenue in millionths of the currency's unit, from 0 to 9 trillion units.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revenue(i64);

/// Why a text is not a revenue.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevenueError {
    /// Not of the form sign, digits, point, digits, exponent. Also NaN, infinity, hexadecimal,
    /// thousands separators, decimal commas, currency signs and the empty text.
    #[error("not a decimal number")]
    NotDecimal,
    /// Below zero, however little.
    #[error("negative")]
    Negative,
    /// Over 9 trillion after rounding.
    #[error("over the limit of 9000000000000")]
    TooLarge,
}

impl Revenue {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(LIMIT);

    /// `None` outside 0 to [`Revenue::MAX`].
    pub fn from_micros(micros: i64) -> Option<Self> {
        (0..=LIMIT).contains(&micros).then_some(Self(micros))
    }

    /// Millionths of the currency's unit.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Reads a decimal with optional sign, fraction and exponent, outer blanks ignored, and
    /// rounds it half-even to six fraction digits. Time is linear in the text whatever the
    /// exponent; nothing is allocated.
    pub fn parse(text: &str) -> Result<Self, RevenueError> {
        let text = crate::request::trim_blanks(text.as_bytes());
        let decimal = Decimal::split(text).ok_or(RevenueError::NotDecimal)?;
        if decimal.rest != 0 {
            return Err(RevenueError::NotDecimal);
        }
        decimal.to_revenue()
    }

    /// Reads the longest decimal that the text begins with, as PHP's `(float)` does, and says
    /// what is wrong with it. No decimal at all is zero.
    pub(crate) fn parse_prefix(text: &[u8]) -> Result<Self, RevenueError> {
        match Decimal::split(crate::request::trim_blanks(text)) {
            Some(decimal) => decimal.to_revenue(),
            None => Ok(Self::ZERO),
        }
    }
}

/// The parts of a decimal, borrowed from its text.
struct Decimal<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
    /// Bytes after the decimal.
    rest: usize,
}

impl<'a> Decimal<'a> {
    /// Splits off the longest decimal at the beginning, `None` where there is no digit. An
    /// exponent without digits is not part of it.
    fn split(text: &'a [u8]) -> Option<Self> {
        let (negative, unsigned) = split_sign(text);
        let (integer, rest) = split_digits(unsigned);
        let (fraction, rest) = match rest {
            [b'.', after @ ..] => split_digits(after),
            _ => (&rest[..0], rest),
        };
        if integer.is_empty() && fraction.is_empty() {
            return None;
        }
        let (exponent, rest) = split_exponent(rest).unwrap_or((0, rest));
        Some(Self {
            negative,
            integer,
            fraction,
            exponent,
            rest: rest.len(),
        })
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.integer
            .iter()
            .chain(self.fraction)
            .map(|digit| digit - b'0')
    }

    fn to_revenue(&self) -> Result<Revenue, RevenueError> {
        let zeros = self.digits().take_while(|&digit| digit == 0).count();
        let total = self.integer.len() + self.fraction.len();
        if zeros == total {
            return Ok(Revenue::ZERO);
        }
        if self.negative {
            return Err(RevenueError::Negative);
        }
        // How many digits stand before the point once the value is counted in millionths. The
        // first of them isn't zero, so the count alone tells what is far too large or too small.
        let point = length(self.integer.len()) - length(zeros) + length(SCALE) + self.exponent;
        if point > LIMIT_DIGITS {
            return Err(RevenueError::TooLarge);
        }
        if point < 0 {
            return Ok(Revenue::ZERO);
        }
        let mut digits = self.digits().skip(zeros);
        let mut micros: u64 = 0;
        for _ in 0..point {
            micros = micros * 10 + u64::from(digits.next().unwrap_or(0));
        }
        let up = match digits.next().unwrap_or(0) {
            0..=4 => false,
            5 => digits.any(|digit| digit != 0) || micros % 2 == 1,
            _ => true,
        };
        i64::try_from(micros + u64::from(up))
            .ok()
            .and_then(Revenue::from_micros)
            .ok_or(RevenueError::TooLarge)
    }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 4)
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn split_exponent(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'e' | b'E', text @ ..] = text else {
        return None;
    };
    let (negative, text) = split_sign(text);
    let (digits, rest) = split_digits(text);
    if digits.is_empty() {
        return None;
    }
    let magnitude = digits.iter().fold(0, |sum: i64, digit| {
        (sum * 10 + i64::from(digit - b'0')).min(EXPONENT_CAP)
    });
    Some((if negative { -magnitude } else { magnitude }, rest))
}

/// The exact JSON number: no exponent, no trailing zeros, no point without a fraction.
impl fmt::Display for Revenue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.unsigned_abs();
        let (units, mut fraction) = (micros / MICROS_PER_UNIT, micros % MICROS_PER_UNIT);
        if fraction == 0 {
            return write!(f, "{units}");
        }
        let mut width = SCALE;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        write!(f, "{units}.{fraction:0width$}")
    }
}

impl std::str::FromStr for Revenue {
    type Err = RevenueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A decimal string: JSON readers that make every number a float leave a string alone.
impl Serialize for Revenue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Revenue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RevenueVisitor;

        impl RevenueVisitor {
            fn parse<E: de::Error>(text: Cow<'_, str>) -> Result<Revenue, E> {
                Revenue::parse(&text)
                    .map_err(|error| E::custom(format_args!("revenue {text:?}: {error}")))
            }
        }

        impl Visitor<'_> for RevenueVisitor {
            type Value = Revenue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a revenue as a decimal string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Revenue, E> {
                Self::parse(text.into())
            }

            fn visit_u64<E: de::Error>(self, units: u64) -> Result<Revenue, E> {
                Self::parse(units.to_string().into())
            }

            fn visit_i64<E: de::Error>(self, units: i64) -> Result<Revenue, E> {
                Self::parse(units.to_string().into())
            }

            // The shortest text of a float is the one it was written with, up to 15 digits.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Revenue, E> {
                Self::parse(number.to_string().into())
            }
        }

        deserializer.deserialize_any(RevenueVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn micros(text: &str) -> Result<i64, RevenueError> {
        Revenue::parse(text).map(Revenue::micros)
    }

    #[test]
    fn reads_decimals() {
        for (text, expected) in [
            ("0", 0),
            ("1.20", 1_200_000),
            ("  1.2\t", 1_200_000),
            ("+1.5", 1_500_000),
            (".5", 500_000),
            ("5.", 5_000_000),
            ("000012.5000000000", 12_500_000),
            ("1e2", 100_000_000),
            ("1.5E-3", 1_500),
            ("1.e1", 10_000_000),
            ("0.30000000000000004", 300_000),
            ("-0", 0),
            ("-0.000e5", 0),
            ("9000000000000", LIMIT),
            ("9000000000000.0000004", LIMIT),
            ("9e12", LIMIT),
            ("0.0009e16", LIMIT),
        ] {
            assert_eq!(micros(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn rounds_half_to_even() {
        for (text, expected) in [
            ("0.0000005", 0),
            ("0.00000050000000001", 1),
            ("0.0000015", 2),
            ("0.0000025", 2),
            ("0.0000024999", 2),
            ("0.00000250000000000000000000000000000000001", 3),
            ("0.0000004", 0),
            ("0.0000009", 1),
            ("0.00000009", 0),
            ("0.9999995", 1_000_000),
            ("5e-7", 0),
            ("15e-7", 2),
        ] {
            assert_eq!(micros(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        for text in [
            "", " ", ".", "-", "+", "e5", "1e", "1e+", "NaN", "inf", "-inf", "0x1A", "1,50",
            "1,000.00", "1 000", "$5", "5$", "5 USD", "1_000", "1.2.3", "--1", "١", "1\0", "- 1",
        ] {
            assert_eq!(micros(text), Err(RevenueError::NotDecimal), "{text:?}");
        }
        for text in [
            "-1",
            "-0.0000000000001",
            "-1e-99999999999999999999",
            "-9e99",
        ] {
            assert_eq!(micros(text), Err(RevenueError::Negative), "{text:?}");
        }
        for text in [
            "9000000000000.000001",
            "9000000000000.0000006",
            "1e13",
            "99e11",
        ] {
            assert_eq!(micros(text), Err(RevenueError::TooLarge), "{text:?}");
        }
    }

    #[test]
    fn any_exponent_and_any_length_are_cheap() {
        let nines = "9".repeat(1_000_000);
        assert_eq!(micros(&format!("1e{nines}")), Err(RevenueError::TooLarge));
        assert_eq!(micros(&format!("1e-{nines}")), Ok(0));
        assert_eq!(micros(&format!("0e{nines}")), Ok(0));
        assert_eq!(micros(&nines), Err(RevenueError::TooLarge));
        assert_eq!(micros(&format!("0.{nines}")), Ok(1_000_000));
        // A long mantissa and an exponent that cancels it.
        let zeros = "0".repeat(500_000);
        assert_eq!(micros(&format!("0.{zeros}15e500001")), Ok(1_500_000));
        assert_eq!(micros(&format!("15{zeros}e-500001")), Ok(1_500_000));
    }

    #[test]
    fn prints_the_shortest_exact_number() {
        for (micros, text) in [
            (0, "0"),
            (1, "0.000001"),
            (1_200_000, "1.2"),
            (1_000_000, "1"),
            (10_000_000, "10"),
            (1_020_300, "1.0203"),
            (LIMIT, "9000000000000"),
            (LIMIT - 1, "8999999999999.999999"),
        ] {
            assert_eq!(Revenue::from_micros(micros).unwrap().to_string(), text);
        }
        assert_eq!(Revenue::from_micros(-1), None);
        assert_eq!(Revenue::from_micros(LIMIT + 1), None);
    }

    #[test]
    fn is_a_string_in_records() {
        let revenue = Revenue::parse("1.20").unwrap();
        assert_eq!(serde_json::to_string(&revenue).unwrap(), r#""1.2""#);
        for json in [r#""1.2""#, "1.2", "1.20", "12e-1"] {
            assert_eq!(
                serde_json::from_str::<Revenue>(json).unwrap(),
                revenue,
                "{json}"
            );
        }
        for json in [r#""1,2""#, "-1", "-1.5", "1e300", "null", "true", "[]"] {
            assert!(serde_json::from_str::<Revenue>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn reads_a_prefix_as_php_does() {
        for (text, expected) in [
            ("1,50", Ok(1_000_000)),
            ("abc", Ok(0)),
            ("", Ok(0)),
            (" 1.5 USD", Ok(1_500_000)),
            ("1e", Ok(1_000_000)),
            ("1e2.5", Ok(100_000_000)),
            ("0x1A", Ok(0)),
            ("1\u{0}2", Ok(1_000_000)),
            ("-5x", Err(RevenueError::Negative)),
            ("1e999x", Err(RevenueError::TooLarge)),
        ] {
            let read = Revenue::parse_prefix(text.as_bytes()).map(Revenue::micros);
            assert_eq!(read, expected, "{text:?}");
        }
    }
}
