//! A reader of CSV that takes nothing but RFC 4180.

/// The records of a text, the header line among them.
///
/// # Errors
///
/// What is no RFC 4180, and near which byte.
pub fn read(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut records: Vec<Vec<String>> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut record = Vec::new();
        loop {
            let (field, after) = field(rest).map_err(|why| {
                let from = text.len() - rest.len();
                let near: String = rest.chars().take(60).collect();
                format!("{why} at byte {from}: {near:?}")
            })?;
            record.push(field);
            if let Some(after) = after.strip_prefix(',') {
                rest = after;
            } else {
                let after = after.strip_prefix("\r\n");
                rest = after.ok_or_else(|| format!("a line without its end: {record:?}"))?;
                break;
            }
        }
        let wide = records.first().map_or(record.len(), Vec::len);
        if record.len() != wide {
            return Err(format!("{} fields of {wide}: {record:?}", record.len()));
        }
        records.push(record);
    }
    Ok(records)
}

/// A field, and what follows it: a comma or the end of the line.
fn field(text: &str) -> Result<(String, &str), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '\r', '\n', '"']);
        let (field, after) = text.split_at(end.ok_or("no end of a line")?);
        return match after.starts_with('"') {
            true => Err("a quote in an unquoted field"),
            false => Ok((field.to_owned(), after)),
        };
    };
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"').ok_or("an open quote")?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, after)),
        }
    }
}

/// Takes away what keeps a spreadsheet from seeing a formula.
///
/// # Errors
///
/// It would see one.
pub fn unguarded(field: &str) -> Result<&str, String> {
    if let Some(text) = field.strip_prefix('\'') {
        return Ok(text);
    }
    match field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        true => Err(format!("a spreadsheet takes this as a formula: {field:?}")),
        false => Ok(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_whole() {
        let records = read("a,b\r\n\"x,\"\"y\"\"\r\nz\",\r\n,\"\"\r\n").unwrap();
        assert_eq!(
            records,
            [["a", "b"], ["x,\"y\"\r\nz", ""], ["", ""]].map(|line| line.map(str::to_owned))
        );
        assert_eq!(read("").unwrap(), Vec::<Vec<String>>::new());
    }

    #[test]
    fn what_is_no_csv_is_no_csv() {
        for text in [
            "a,b",
            "a,b\n",
            "a\r\nb,c\r\n",
            "a\"b\r\n",
            "\"a\r\n",
            "\"a\"b\r\n",
            "a\rb\r\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn formulas_are_seen() {
        assert_eq!(unguarded("'=1"), Ok("=1"));
        assert_eq!(unguarded("''"), Ok("'"));
        assert_eq!(unguarded(""), Ok(""));
        assert!(unguarded("=1").is_err());
        assert!(unguarded("\n").is_err());
    }
}
