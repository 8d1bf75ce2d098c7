//! Rows of named cells, written as JSON, as lines of JSON, or as CSV.

use std::io::Write as _;

/// How a list is written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Ndjson,
    Csv,
}

impl Format {
    pub(crate) fn of(text: &str) -> Result<Self, &'static str> {
        match text {
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            "csv" => Ok(Self::Csv),
            _ => Err("must be json, ndjson or csv"),
        }
    }

    pub(crate) fn file_end(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    /// A number, or other JSON.
    Json(String),
}

impl Cell {
    pub(crate) fn number(number: impl ToString) -> Self {
        Self::Json(number.to_string())
    }

    /// An exact amount, from millionths.
    pub(crate) fn amount(micros: impl Into<i128>) -> Self {
        Self::Json(decimal(micros.into()))
    }

    /// A list of rows.
    pub(crate) fn rows(rows: &[Row]) -> Self {
        let mut json = vec![b'['];
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            write_json(row, &mut json);
        }
        json.push(b']');
        Self::Json(String::from_utf8(json).unwrap_or_default())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Cells with their names, in order.
pub(crate) type Row = Vec<(&'static str, Cell)>;

/// A row as a JSON object.
pub(crate) fn write_json(row: &Row, into: &mut Vec<u8>) {
    into.push(b'{');
    for (index, (name, cell)) in row.iter().enumerate() {
        if index > 0 {
            into.push(b',');
        }
        // Writing into a Vec can't fail.
        let _ = write!(into, "\"{name}\":");
        match cell {
            Cell::Null => into.extend_from_slice(b"null"),
            Cell::Json(json) => into.extend_from_slice(json.as_bytes()),
            Cell::Text(text) => {
                let _ = serde_json::to_writer(&mut *into, text);
            }
        }
    }
    into.push(b'}');
}

/// The names of a row as CSV's first line.
pub(crate) fn write_header(names: &[&str], into: &mut Vec<u8>) {
    into.extend_from_slice(names.join(",").as_bytes());
    into.extend_from_slice(b"\r\n");
}

/// A row as one line of CSV (RFC 4180), also for who reads it line by line: line breaks become pictures of them.
pub(crate) fn write_csv(row: &Row, into: &mut Vec<u8>) {
    for (index, (_, cell)) in row.iter().enumerate() {
        if index > 0 {
            into.push(b',');
        }
        match cell {
            Cell::Null => {}
            Cell::Json(json) => write_field(json, into),
            Cell::Text(text) if is_formula(text) => write_field(&format!("'{text}"), into),
            Cell::Text(text) => write_field(text, into),
        }
    }
    into.extend_from_slice(b"\r\n");
}

/// What a spreadsheet would take as a formula, and what would then look like one that was guarded
/// against: an apostrophe goes before both, so that taking one away gives the text back.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\''])
}

fn write_field(text: &str, into: &mut Vec<u8>) {
    let text = text.replace('\r', "␍").replace('\n', "␊");
    if !text.contains([',', '"']) {
        into.extend_from_slice(text.as_bytes());
        return;
    }
    into.push(b'"');
    into.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    into.push(b'"');
}

/// Millionths as a decimal number, without zeros at its end.
pub(crate) fn decimal(micros: i128) -> String {
    const UNIT: u128 = 1_000_000;
    let sign = if micros < 0 { "-" } else { "" };
    let (whole, fraction) = (micros.unsigned_abs() / UNIT, micros.unsigned_abs() % UNIT);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{fraction:06}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        vec![
            ("a", Cell::Text(text.to_owned())),
            ("b", Cell::Null),
            ("c", Cell::amount(1_200_000)),
        ]
    }

    fn csv(text: &str) -> String {
        let mut bytes = Vec::new();
        write_csv(&row(text), &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn csv_keeps_texts_and_lines_whole() {
        for (text, field) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines\r\n", "two␊lines␍␊"),
            ("=1+1", "'=1+1"),
            ("@x", "'@x"),
            ("-1", "'-1"),
            ("+1,2", "\"'+1,2\""),
            ("'quoted", "''quoted"),
            ("\tx", "'\tx"),
            ("\rx", "␍x"),
            ("😀 é", "😀 é"),
        ] {
            assert_eq!(csv(text), format!("{field},,1.2\r\n"));
        }
    }

    #[test]
    fn json_keeps_the_order() {
        let mut bytes = Vec::new();
        write_json(&row("x\"\u{1}😀"), &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "{\"a\":\"x\\\"\\u0001😀\",\"b\":null,\"c\":1.2}");
        assert_eq!(Cell::rows(&[]), Cell::Json("[]".to_owned()));
    }

    #[test]
    fn amounts_are_exact() {
        for (micros, text) in [
            (0, "0"),
            (1, "0.000001"),
            (1_230_000, "1.23"),
            (-500_000, "-0.5"),
            (9_000_000_000_000_000_000_000, "9000000000000000"),
        ] {
            assert_eq!(decimal(micros), text);
        }
    }
}
