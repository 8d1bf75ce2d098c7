//! `postern parse`: how a postback's URL is understood.

use super::say;
use crate::config::Settings;
use anyhow::bail;
use postern_core::check::check;
use postern_core::request::Incoming;

/// Prints what the check endpoint would answer. An error where the postback would be refused.
pub fn parse(settings: &Settings, url: &str) -> anyhow::Result<()> {
    let incoming = Incoming {
        query: query(url).as_bytes(),
        body: None,
    };
    let checked = check(&incoming, &settings.ingress.rules);
    say(&indented(&String::from_utf8_lossy(&checked.body)));
    if let Some(code) = checked.refused {
        bail!("this postback would be refused: {code}");
    }
    Ok(())
}

/// What a server gets to see of the parameters: behind the question mark, and before a `#`, which
/// is never sent. A text that is no URL is a query already.
fn query(text: &str) -> &str {
    let sent = text.split('#').next().unwrap_or_default();
    let scheme = sent.split_once("://").map(|(scheme, _)| scheme);
    let is_url = sent.starts_with('/') || scheme.is_some_and(|scheme| !scheme.contains(['=', '&']));
    match sent.split_once('?') {
        // Behind a `=` it is part of a value.
        Some((before, after)) if is_url || !before.contains('=') => after,
        None if is_url => "",
        _ => sent,
    }
}

/// JSON with a field on each line. Written anew from its text, not from its values: these would
/// lose the order of the fields and the digits of the money.
fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut before = ' ';
    for c in json.chars() {
        if quoted {
            text.push(c);
            quoted = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
        } else {
            let closes = matches!(c, ']' | '}');
            depth -= usize::from(closes && depth > 0);
            let empty = closes && matches!(before, '[' | '{');
            if (closes && !empty) || (!closes && matches!(before, '[' | '{' | ',')) {
                text.push('\n');
                text.extend(std::iter::repeat_n("  ", depth));
            }
            text.push(c);
            depth += usize::from(matches!(c, '[' | '{'));
            if c == ':' {
                text.push(' ');
            }
            quoted = c == '"';
        }
        before = c;
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_out_of_its_url() {
        for (url, expected) in [
            (
                "https://p.example/v1/postback.php?clickid=a&x=b?c",
                "clickid=a&x=b?c",
            ),
            ("/v1/postback?clickid=a#b", "clickid=a"),
            ("http://p.example/a=b?clickid=a", "clickid=a"),
            ("p.example/v1/postback?clickid=a", "clickid=a"),
            ("?clickid=a", "clickid=a"),
            ("clickid=a&revenue=1", "clickid=a&revenue=1"),
            ("clickid=a&x=b?c", "clickid=a&x=b?c"),
            (
                "clickid=a&x=https://b.example/?c=d",
                "clickid=a&x=https://b.example/?c=d",
            ),
            ("https://p.example/v1/postback.php", ""),
            ("https://p.example/?", ""),
            ("", ""),
        ] {
            assert_eq!(query(url), expected, "{url}");
        }
    }

    #[test]
    fn indenting_changes_nothing_but_blanks() {
        let json =
            r#"{"a":8999999999999.123456,"b":[],"c":{},"d":["x, [\\\"{:","y"],"e":{"f":null}}"#;
        let text = indented(json);
        assert_eq!(
            text,
            "{\n  \"a\": 8999999999999.123456,\n  \"b\": [],\n  \"c\": {},\n  \"d\": [\n    \
             \"x, [\\\\\\\"{:\",\n    \"y\"\n  ],\n  \"e\": {\n    \"f\": null\n  }\n}"
        );
        let [before, after]: [serde_json::Value; 2] =
            [json, &text].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(before, after);
    }
}
