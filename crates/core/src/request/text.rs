//! Bytes into text: blanks, what is stored of a free text, and how a value is shown to people.

/// Bytes that a subid or an external id keeps.
pub const STORED_BYTES: usize = 1_024;
/// Characters of a value that a message quotes.
const QUOTED_CHARACTERS: usize = 64;

/// ASCII white space, the vertical tab included.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The bytes without blanks at either end.
pub(crate) fn trim_blanks(bytes: &[u8]) -> &[u8] {
    let Some(start) = bytes.iter().position(|&byte| !is_blank(byte)) else {
        return &[];
    };
    let end = bytes
        .iter()
        .rposition(|&byte| !is_blank(byte))
        .map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// A text as the store can hold it: invalid UTF-8 and NUL become U+FFFD, what goes over `limit`
/// bytes is cut off at a character boundary. The flag says whether anything was cut.
pub(crate) fn stored(bytes: &[u8], limit: usize) -> (String, bool) {
    let mut text = String::with_capacity(bytes.len().min(limit));
    for chunk in bytes.utf8_chunks() {
        let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for character in chunk.valid().chars().chain(broken) {
            let character = if character == '\0' {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            };
            if text.len() + character.len_utf8() > limit {
                return (text, true);
            }
            text.push(character);
        }
    }
    (text, false)
}

/// A name for an answer: cut, invalid UTF-8 replaced.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(QUOTED_CHARACTERS * 4)];
    let text = String::from_utf8_lossy(head);
    text.chars().take(QUOTED_CHARACTERS).collect()
}

/// A value for a message: in quotes, cut, and with everything that doesn't print escaped.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    // One more character than is shown, so that a cut within a character isn't seen.
    let head = &bytes[..bytes.len().min((QUOTED_CHARACTERS + 1) * 4)];
    let text = String::from_utf8_lossy(head);
    let mut shown = String::with_capacity(bytes.len().min(QUOTED_CHARACTERS) + 2);
    shown.push('"');
    for (position, character) in text.chars().enumerate() {
        if position == QUOTED_CHARACTERS {
            shown.push('…');
            break;
        }
        match character {
            '\'' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown.push('"');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_only_outer_blanks() {
        assert_eq!(trim_blanks(b" \t\n\x0b\x0c\ra b\r"), b"a b");
        assert_eq!(trim_blanks(b" \t"), b"");
        assert_eq!(trim_blanks(b""), b"");
        assert_eq!(trim_blanks(b"\0a\0"), b"\0a\0");
        assert_eq!(trim_blanks("\u{a0}".as_bytes()), "\u{a0}".as_bytes());
    }

    fn stored(bytes: &[u8]) -> (String, bool) {
        super::stored(bytes, STORED_BYTES)
    }

    #[test]
    fn stores_what_can_be_stored() {
        assert_eq!(stored(b" a "), (" a ".into(), false));
        assert_eq!(stored(b"a\0b\xffc"), ("a\u{fffd}b\u{fffd}c".into(), false));
        assert_eq!(stored(b"\xe2\x82"), ("\u{fffd}".into(), false));
        assert_eq!(
            stored("\u{1}\u{7f}".as_bytes()),
            ("\u{1}\u{7f}".into(), false)
        );
    }

    #[test]
    fn cuts_between_characters() {
        let full = "x".repeat(STORED_BYTES);
        assert_eq!(stored(full.as_bytes()), (full.clone(), false));
        assert_eq!(stored(format!("{full}y").as_bytes()), (full, true));
        let euros = "€".repeat(500);
        assert_eq!(stored(euros.as_bytes()), ("€".repeat(341), true));
        assert_eq!(stored(&[0xff; 2_000]), ("\u{fffd}".repeat(341), true));
    }

    #[test]
    fn quotes_for_people() {
        assert_eq!(quoted(b"1,50"), r#""1,50""#);
        assert_eq!(
            quoted(b"it's \"so\"\n\0\xff"),
            "\"it's \\\"so\\\"\\n\\0\u{fffd}\""
        );
        assert_eq!(quoted("\u{202e}x".as_bytes()), "\"\\u{202e}x\"");
        assert_eq!(
            quoted("€".repeat(64).as_bytes()),
            format!("\"{}\"", "€".repeat(64))
        );
        assert_eq!(
            quoted("😀".repeat(65).as_bytes()),
            format!("\"{}…\"", "😀".repeat(64))
        );
        assert_eq!(
            quoted(&[0xff; 9_999]),
            format!("\"{}…\"", "\u{fffd}".repeat(64))
        );
    }
}
