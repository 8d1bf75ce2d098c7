//! Unresolved macros: the placeholder of a postback template that nobody replaced.
//!
//! Known are `{x}`, `${x}`, `{{x}}`, `[x]` and `##x##`, plain or percent-encoded once more, and
//! only where they are the whole value. The name between must look like one, so that a GUID in
//! braces, which is a value, isn't taken for a placeholder.

use super::query::decode;
use super::trim_blanks;

/// Characters that a macro's name has at most.
const NAME: usize = 64;

/// Signs before and after the name, the longer ones first.
const SIGNS: [(&[u8], &[u8]); 5] = [
    (b"${", b"}"),
    (b"{{", b"}}"),
    (b"{", b"}"),
    (b"[", b"]"),
    (b"##", b"##"),
];

/// Whether the value is a macro and nothing else; outer blanks don't matter.
pub(super) fn is_macro(value: &[u8]) -> bool {
    let value = trim_blanks(value);
    // Three bytes for each one where it is encoded: anything longer can't be one.
    if value.len() > (NAME + 8) * 3 {
        return false;
    }
    is_plain(value) || (value.contains(&b'%') && is_plain(trim_blanks(&decode(value, false))))
}

fn is_plain(value: &[u8]) -> bool {
    SIGNS.iter().any(|(before, after)| {
        value
            .strip_prefix(*before)
            .and_then(|rest| rest.strip_suffix(*after))
            .is_some_and(|name| is_name(trim_blanks(name)))
    })
}

/// Begins with a letter or an underscore, goes on as names in trackers do, and is no GUID.
fn is_name(name: &[u8]) -> bool {
    let [first, rest @ ..] = name else {
        return false;
    };
    name.len() <= NAME
        && (first.is_ascii_alphabetic() || *first == b'_')
        && rest
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(byte))
        && uuid::Uuid::try_parse_ascii(name).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_macros() {
        for value in [
            "{clickid}",
            "${CLICK_ID}",
            "{{click.id}}",
            "{{ click_id }}",
            "[CLICKID]",
            "##ID##",
            " {clickid}\n",
            "{_x}",
            "{payout:2}",
            "{a-b}",
            "%7Bclickid%7D",
            "%7bclickid%7d",
            "%24%7BX%7D",
            "%5BX%5D",
            "%23%23X%23%23",
            "{%63lickid}",
            "%7B%7Bx%7D%7D",
        ] {
            assert!(is_macro(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn leaves_values_alone() {
        for value in [
            "",
            "abc",
            "{}",
            "[]",
            "${}",
            "{{}}",
            "####",
            "##",
            "{",
            "}",
            "{ }",
            "{0}",
            "[5]",
            "{a}{b}",
            "{a}_{b}",
            "x{a}",
            "{a}x",
            "[1,2]",
            "{\"a\":1}",
            "%clickid%",
            "<x>",
            "{clickid",
            "clickid}",
            "[a}",
            "##a#",
            "#a#",
            "%257Bclickid%257D",
            "%7Bclickid",
            "{6F9619FF-8B86-D011-B42D-00CF4FC964FF}",
            "{a2d69d308430f3eaaa569df11e17fb36}",
            "{F9619FF6-8B86-D011-B42D-00CF4FC964FF}",
            "%7BF9619FF6-8B86-D011-B42D-00CF4FC964FF%7D",
            "{é}",
            "[two words]",
            "{a\0}",
        ] {
            assert!(!is_macro(value.as_bytes()), "{value}");
        }
        assert!(is_macro(format!("{{{}}}", "a".repeat(NAME)).as_bytes()));
        assert!(!is_macro(
            format!("{{{}}}", "a".repeat(NAME + 1)).as_bytes()
        ));
        assert!(!is_macro("{".repeat(1_000_000).as_bytes()));
    }
}
