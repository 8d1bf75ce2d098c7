//! Types for configuration values that plain serde types do not express:
//! durations and sizes with units, secrets, and free tables of options.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::SettingsError;

/// A duration with its unit: `500ms`, `2s`, `1m`, `12h`, `7d`. A bare number is
/// refused, because it does not say of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const SPAN_HELP: &str = "a duration needs a number and a unit, such as 500ms, 2s, 1m, 12h or 7d";

impl Span {
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text);
        let value: u64 = number.parse().map_err(|_| SPAN_HELP.to_owned())?;
        let millis_per_unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(SPAN_HELP.to_owned()),
        };
        value
            .checked_mul(millis_per_unit)
            .map(Self::from_millis)
            .ok_or_else(|| "this duration is too long".to_owned())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, millis_per_unit) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
        ] {
            if millis > 0 && millis.is_multiple_of(millis_per_unit) {
                return write!(f, "{}{unit}", millis / millis_per_unit);
            }
        }
        write!(f, "{millis}ms")
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed(SPAN_HELP, |_| None))
    }
}

/// A size in bytes: a plain number, or with `B`, `kB`, `MB`, `GB` (powers of a
/// thousand) or `KiB`, `MiB`, `GiB` (powers of 1,024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SIZE_HELP: &str = "a size is a number of bytes, or one with a unit such as 16KiB or 1MiB";

impl Size {
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// For limits on memory; a size beyond the address space is no limit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text);
        let value: u64 = number.parse().map_err(|_| SIZE_HELP.to_owned())?;
        let bytes_per_unit = match unit {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(SIZE_HELP.to_owned()),
        };
        value
            .checked_mul(bytes_per_unit)
            .map(Self)
            .ok_or_else(|| "this size is too large".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes_per_unit) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 > 0 && self.0.is_multiple_of(bytes_per_unit) {
                return write!(f, "{}{unit}", self.0 / bytes_per_unit);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed(SIZE_HELP, |bytes| Some(Self(bytes))))
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Reads a value from text, or from a bare integer where that means something.
struct Parsed<T>(&'static str, fn(u64) -> Option<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse()
            .map_err(|help| E::custom(format_args!("{text:?} can't be used: {help}")))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.1)(number)
            .ok_or_else(|| E::custom(format_args!("{number} can't be used: {}", self.0)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number)
            .ok()
            .and_then(self.1)
            .ok_or_else(|| E::custom(format_args!("{number} can't be used: {}", self.0)))
    }
}

/// Text that must not be seen: neither `Debug` nor `Display` print it, and
/// errors about it don't quote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Hand it to what needs it and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a secret from a file, for the `*_file` keys. The line end that
    /// editors put at the end of a file is not part of it.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        std::fs::read_to_string(path)
            .map(|text| Self(text.trim_end_matches(['\r', '\n']).to_owned()))
            .map_err(|source| SettingsError::Read {
                path: path.to_owned(),
                source,
            })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hidden;

        // Serde's own complaints about a wrong type quote the value, so every
        // kind of value is met here.
        fn refused<E: de::Error>() -> E {
            E::custom("a secret must be a string")
        }

        impl<'de> Visitor<'de> for Hidden {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(refused())
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(refused())
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(refused())
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(refused())
            }

            fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Secret, E> {
                Err(refused())
            }
        }

        deserializer.deserialize_str(Hidden)
    }
}

/// A free table of names and texts, such as `kafka.options`: names may hold
/// dots, written as one quoted key or as nested tables, numbers and booleans
/// may stand without quotes.
///
/// `Debug` prints the names only: a free table may hold passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(pub BTreeMap<String, String>);

/// How [`Options`] tells our deserializer to hand out dotted keys.
pub(super) const OPTIONS_NAME: &str = "postern_runtime::settings::Options";

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.keys().map(|name| (name, "***")))
            .finish()
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Options;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of option names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Options, A::Error> {
                let mut options = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    collect(&name, map.next_value()?, &mut options).map_err(de::Error::custom)?;
                }
                Ok(Options(options))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                inner: D,
            ) -> Result<Options, D::Error> {
                inner.deserialize_map(self)
            }
        }

        deserializer.deserialize_newtype_struct(OPTIONS_NAME, Table)
    }
}

/// Brings a free table, nested or with dotted names, to dotted names and texts.
/// What is neither text, number nor boolean is left out; [`Options`] refuses it.
pub fn flatten_options(value: serde_json::Value) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    if let serde_json::Value::Object(table) = value {
        for (name, value) in table {
            // A list as an option's value has no meaning to librdkafka.
            let _ = collect(&name, value, &mut options);
        }
    }
    options
}

fn collect(
    name: &str,
    value: serde_json::Value,
    into: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    use serde_json::Value;
    let text = match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Object(table) => {
            for (inner, value) in table {
                collect(&format!("{name}.{inner}"), value, into)?;
            }
            return Ok(());
        }
        Value::Null | Value::Array(_) => {
            return Err(format!("{name} must be a string, a number or a boolean"));
        }
    };
    into.insert(name.to_owned(), text);
    Ok(())
}
