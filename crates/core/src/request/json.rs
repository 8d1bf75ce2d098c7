//! JSON bodies: one object whose strings and numbers are the parameters.
//!
//! A number is taken as the text that it was written with, never through a float. Values stay
//! raw until their name is known, so nothing is built of nested ones; they are skipped without
//! recursion, whatever their depth.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Refusal;
use super::parameters::{Parameters, Slot};

/// Reads a body; names that mean nothing are skipped, of a repeated one the last counts.
pub(super) fn parse(body: &[u8]) -> Result<Parameters<'_>, Refusal> {
    let text = str::from_utf8(body)
        .map_err(|error| malformed_at(body, error.valid_up_to(), "invalid UTF-8".to_owned()))?;
    // Editors and Windows programs put it in front; it is not part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = serde_json::Deserializer::from_str(text);
    let values = reader
        .deserialize_map(Values)
        .and_then(|values| reader.end().map(|()| values))
        .map_err(|error| malformed(&error))?;

    let mut parameters = Parameters::default();
    for (index, raw) in values.0.into_iter().enumerate() {
        let Some(raw) = raw else { continue };
        let slot = slot(raw).map_err(|error| {
            // The raw value is a part of the text, so the distance of the two is its offset.
            let offset = raw.as_ptr().addr() - text.as_ptr().addr();
            malformed_at(text.as_bytes(), offset, detail(&error))
        })?;
        parameters.set_at(index, slot);
    }
    Ok(parameters)
}

/// What a raw value, which is valid JSON already, is worth. It can still fail: the escapes of a
/// string were not looked at, and half a surrogate pair is no character.
pub(super) fn slot(raw: &str) -> Result<Slot<'_>, serde_json::Error> {
    Ok(match raw.as_bytes().first() {
        Some(b'"') if !raw.contains('\\') => {
            Slot::Text(Cow::Borrowed(&raw.as_bytes()[1..raw.len() - 1]))
        }
        Some(b'"') => Slot::Text(Cow::Owned(
            serde_json::from_str::<String>(raw)?.into_bytes(),
        )),
        Some(b'-' | b'0'..=b'9') => Slot::Text(Cow::Borrowed(raw.as_bytes())),
        Some(b'n') => Slot::Absent,
        _ => Slot::NotText,
    })
}

/// The raw values of the known names.
struct Values;

struct Found<'a>([Option<&'a str>; Parameters::NAMES.len()]);

impl<'de> Visitor<'de> for Values {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let mut found = Found([None; Parameters::NAMES.len()]);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let value: &'de RawValue = map.next_value()?;
            if let Some(index) = Parameters::index(name.as_bytes()) {
                found.0[index] = Some(value.get());
            }
        }
        Ok(found)
    }
}

fn malformed(error: &serde_json::Error) -> Refusal {
    Refusal::MalformedJson {
        line: error.line(),
        column: error.column(),
        detail: detail(error),
    }
}

/// The error without its position, which is told apart.
fn detail(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.rfind(" at line ") {
        text.truncate(end);
    }
    text
}

fn malformed_at(body: &[u8], offset: usize, detail: String) -> Refusal {
    let before = &body[..offset.min(body.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    Refusal::MalformedJson {
        line,
        column: before.len() - start + 1,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Vec<(&'static str, String)> {
        let parameters = parse(body.as_bytes()).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        Parameters::NAMES
            .iter()
            .enumerate()
            .filter_map(|(index, name)| match parameters.at(index) {
                Slot::Absent => None,
                Slot::NotText => Some((*name, "(not text)".to_owned())),
                Slot::Text(text) => Some((*name, String::from_utf8_lossy(text).into_owned())),
            })
            .collect()
    }

    fn check(body: &str, expected: &[(&'static str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| (*name, value.to_string()))
            .collect();
        assert_eq!(read(body), expected, "{body}");
    }

    fn position(body: &[u8]) -> (usize, usize) {
        match parse(body) {
            Err(Refusal::MalformedJson {
                line,
                column,
                detail,
            }) => {
                assert!(!detail.is_empty() && !detail.contains("line"), "{detail}");
                (line, column)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn takes_strings_and_numbers_as_written() {
        check(
            r#"{"clickid":"abc","revenue":1.20}"#,
            &[("clickid", "abc"), ("revenue", "1.20")],
        );
        check(
            r#"{"revenue":0.30000000000000004}"#,
            &[("revenue", "0.30000000000000004")],
        );
        check(r#"{"revenue":1E400}"#, &[("revenue", "1E400")]);
        check(
            r#"{"clickid":12345678901234567890}"#,
            &[("clickid", "12345678901234567890")],
        );
        check(
            "{\"subid0\":\" \\u00e9\\n\\ud83d\\ude00\"}",
            &[("subid0", " é\n😀")],
        );
        check(r#"{"click\u0069d":"x"}"#, &[("clickid", "x")]);
        check(r#"{"click.id":"x","other":5}"#, &[]);
        check("\u{feff} {} \n", &[]);
    }

    #[test]
    fn other_values_count_as_absent() {
        check(
            r#"{"clickid":null,"revenue":true,"subid0":["a"],"subid1":{"a":{}}}"#,
            &[
                ("revenue", "(not text)"),
                ("subid0", "(not text)"),
                ("subid1", "(not text)"),
            ],
        );
    }

    #[test]
    fn the_last_of_a_name_counts() {
        check(r#"{"revenue":1,"revenue":2}"#, &[("revenue", "2")]);
        check(r#"{"revenue":1,"revenue":null}"#, &[]);
        check(r#"{"revenue":[],"revenue":"3"}"#, &[("revenue", "3")]);
    }

    #[test]
    fn says_where_it_is_malformed() {
        assert_eq!(position(b""), (1, 0));
        assert_eq!(position(b"{"), (1, 1));
        assert_eq!(position(b"{\n \"a\": }"), (2, 7));
        assert_eq!(position(b"{} x"), (1, 4));
        assert_eq!(position(b"{\"a\":01}"), (1, 7));
        assert_eq!(position(b"{\"a\":\"\xff\"}"), (1, 7));
        assert_eq!(position(b"{\n\"clickid\":\"\\ud800\"}"), (2, 11));
        for body in [
            "[]",
            "5",
            "\"x\"",
            "null",
            "{'a':1}",
            "{\"a\":1,}",
            "{\"a\":NaN}",
        ] {
            position(body.as_bytes());
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = "[".repeat(200_000);
        position(format!("{{\"a\":{deep}").as_bytes());
        let closed = "]".repeat(200_000);
        check(
            &format!("{{\"a\":{deep}{closed},\"clickid\":\"x\"}}"),
            &[("clickid", "x")],
        );
    }
}
