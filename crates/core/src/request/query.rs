//! Query strings and form bodies, read as PHP's `parse_str` reads them.
//!
//! What differs from PHP is listed in docs/MIGRATION.md, and `tests/php_parse_str.rs` holds this
//! module against php itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Parameters that one query or form may have; PHP's default is 1,000. With more, the query is
/// not read further and [`ParsedQuery::is_cut`] says so.
pub const MAX_PARAMETERS: usize = 4_096;

/// The parameters of a query in the order in which they came, names and values decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedQuery<'a> {
    parameters: Vec<Parameter<'a>>,
    cut: bool,
}

/// One `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Decoded and mangled as PHP does it.
    pub name: Cow<'a, [u8]>,
    /// `None` for an element of an array (`name[]=value`).
    pub value: Option<Cow<'a, [u8]>>,
}

impl<'a> ParsedQuery<'a> {
    /// The value that counts for a name: the last one. `None` where there is none or where the
    /// last one belongs to an array.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let last = self
            .parameters
            .iter()
            .rev()
            .find(|parameter| *parameter.name == *name)?;
        last.value.as_deref()
    }

    /// Every parameter, repeated ones included.
    pub fn into_parameters(self) -> impl Iterator<Item = Parameter<'a>> {
        self.parameters.into_iter()
    }

    /// The names that have a value in the end, with it: what `parse_str` leaves apart from arrays.
    pub fn scalars(&self) -> BTreeMap<&[u8], &[u8]> {
        let mut scalars = BTreeMap::new();
        for parameter in &self.parameters {
            match &parameter.value {
                Some(value) => scalars.insert(&*parameter.name, &**value),
                None => scalars.remove(&*parameter.name),
            };
        }
        scalars
    }

    /// Whether there were more than [`MAX_PARAMETERS`].
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

/// Reads a query string or a form body. Never fails: what can't be decoded is taken literally,
/// a parameter without a name is dropped.
pub fn parse_str(query: &[u8]) -> ParsedQuery<'_> {
    let mut parsed = ParsedQuery::default();
    for (name, value) in pairs(query) {
        if parsed.parameters.len() == MAX_PARAMETERS {
            parsed.cut = true;
            break;
        }
        let Some((name, array)) = mangle(decode(name, true)) else {
            continue;
        };
        let value = if array {
            None
        } else {
            Some(decode(value, true))
        };
        parsed.parameters.push(Parameter { name, value });
    }
    parsed
}

/// Names and values as they were sent; one that is nothing at all is none.
pub(super) fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query
        .split(|&byte| byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.iter().position(|&byte| byte == b'=') {
            Some(sign) => (&pair[..sign], &pair[sign + 1..]),
            None => (pair, &pair[..0]),
        })
}

/// `%` with two hexadecimal digits is a byte, any other `%` itself, and in a form `+` is a blank.
pub(super) fn decode(encoded: &[u8], form: bool) -> Cow<'_, [u8]> {
    if !encoded.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) if form => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            _ => decoded.push(*first),
        }
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Makes a decoded name what PHP makes of it, and tells whether it names an array's element.
/// `None` where nothing is left.
///
/// A NUL ends the name and blanks in front of it don't belong to it. Blanks and dots become
/// underscores up to the first `[`. With a `]` behind it, the name ends there and is an array;
/// without, the bracket and every blank, dot and bracket after it become underscores too.
fn mangle(name: Cow<'_, [u8]>) -> Option<(Cow<'_, [u8]>, bool)> {
    if !name
        .iter()
        .any(|byte| matches!(byte, 0 | b' ' | b'.' | b'['))
    {
        return (!name.is_empty()).then_some((name, false));
    }
    let end = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(name.len());
    let start = name[..end]
        .iter()
        .position(|&byte| byte != b' ')
        .unwrap_or(end);
    let name = &name[start..end];
    let bracket = name.iter().position(|&byte| byte == b'[');
    if name.is_empty() || bracket == Some(0) {
        return None;
    }
    let array = bracket.filter(|&open| name[open..].contains(&b']'));
    let mangled = name[..array.unwrap_or(name.len())]
        .iter()
        .map(|byte| {
            if matches!(byte, b' ' | b'.' | b'[') {
                b'_'
            } else {
                *byte
            }
        })
        .collect();
    Some((Cow::Owned(mangled), array.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(query: &str) -> Vec<(String, String)> {
        parse_str(query.as_bytes())
            .scalars()
            .into_iter()
            .map(|(name, value)| {
                (
                    name.escape_ascii().to_string(),
                    value.escape_ascii().to_string(),
                )
            })
            .collect()
    }

    fn check(query: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        assert_eq!(scalars(query), expected, "{query}");
    }

    #[test]
    fn reads_pairs() {
        check("a=1&b=2", &[("a", "1"), ("b", "2")]);
        check("a=1&a=2", &[("a", "2")]);
        check("&&a&&b=&", &[("a", ""), ("b", "")]);
        check("a==b", &[("a", "=b")]);
        check("=x", &[]);
        check("a;b=1", &[("a;b", "1")]);
        check("", &[]);
    }

    #[test]
    fn decodes() {
        check("a=1+2%2b%2B", &[("a", "1 2++")]);
        check("%61=%e2%82%AC", &[("a", r"\xe2\x82\xac")]);
        check(
            "a=%&b=%4&c=%zz&d=%4g&e=%%41",
            &[
                ("a", "%"),
                ("b", "%4"),
                ("c", "%zz"),
                ("d", "%4g"),
                ("e", "%A"),
            ],
        );
        check("a=%26b%3D1", &[("a", "&b=1")]);
        check("a=%00", &[("a", r"\x00")]);
        check("a=%2541", &[("a", "%41")]);
    }

    #[test]
    fn mangles_names() {
        check("click.id=1", &[("click_id", "1")]);
        check("click+id=1", &[("click_id", "1")]);
        check("+%20a=1", &[("a", "1")]);
        check("a+=1", &[("a_", "1")]);
        check("%09a=1", &[(r"\ta", "1")]);
        check("a%00b=1", &[("a", "1")]);
        check("%00=1&+=1", &[]);
        check("click[id=1", &[("click_id", "1")]);
        check("a[b[c.d=1", &[("a_b_c_d", "1")]);
        check("a[%00]=1", &[("a_", "1")]);
        check("a]b=1", &[("a]b", "1")]);
    }

    #[test]
    fn an_array_counts_as_absent() {
        check("a[]=1", &[]);
        check("a=1&a[]=2", &[]);
        check("a=1&a[x][y]=2", &[]);
        check("a[]=1&a=2", &[("a", "2")]);
        check("a%5B%5D=1&b=2", &[("b", "2")]);
        check("a.b=1&a_b[x]z=2", &[]);
        check("[a]=1&[=1", &[]);
        assert_eq!(parse_str(b"a=1&a[]=2").get(b"a"), None);
        assert_eq!(parse_str(b"a[]=1&a=2&a=3").get(b"a"), Some(&b"3"[..]));
    }

    #[test]
    fn has_a_limit() {
        let most = "a=1&".repeat(MAX_PARAMETERS);
        assert!(!parse_str(most.as_bytes()).is_cut());
        let more = format!("{most}&b=2");
        let parsed = parse_str(more.as_bytes());
        assert!(parsed.is_cut());
        assert_eq!(parsed.into_parameters().count(), MAX_PARAMETERS);
    }

    #[test]
    fn borrows_what_needs_no_decoding() {
        let parameters: Vec<_> = parse_str(b"clickid=abc").into_parameters().collect();
        assert!(matches!(parameters[0].name, Cow::Borrowed(b"clickid")));
        assert!(matches!(parameters[0].value, Some(Cow::Borrowed(b"abc"))));
    }
}
