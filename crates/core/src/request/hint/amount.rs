//! Amounts as people write them, and how they are to be sent.

use super::super::trim_blanks;
use crate::money::Revenue;

/// Bytes of an amount that is looked at.
const LONGEST: usize = 64;
const SYMBOLS: &str = "$€£¥₽₴₸₹₺₩₫₱₪฿₦₿";
/// What stands between groups of thousands, beside point and comma.
const SPACERS: [char; 7] = [' ', '\u{a0}', '\u{202f}', '\u{2009}', '\'', '’', '_'];

/// How an amount is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Plain {
        amount: String,
        /// The currency that stood beside it, with its code where that is certain.
        currency: Option<Option<String>>,
    },
    /// `1,000` is both.
    Either { thousands: String, decimal: String },
}

/// `None` where it isn't clear that an amount is meant.
pub(super) fn written(value: &[u8]) -> Option<Written> {
    let text = str::from_utf8(trim_blanks(value)).ok()?;
    if text.len() > LONGEST {
        return None;
    }
    let in_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    let start = text.find(in_number)?;
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let number = text.get(start..end)?;
    let mark = [&text[..start], &text[end..]].map(str::trim);
    let currency = match mark {
        ["", ""] => None,
        [mark, ""] | ["", mark] => Some(code(mark)?),
        _ => return None,
    };
    let (whole, fraction) = split(number);
    let amount = plain(whole, fraction)?;
    if let (Some(fraction), true) = (fraction, number.contains(',')) {
        let alone = whole.bytes().all(|byte| byte.is_ascii_digit());
        let groups = (1..=3).contains(&whole.len()) && !whole.starts_with('0');
        if alone && groups && fraction.len() == 3 {
            let thousands = format!("{whole}{fraction}");
            return Some(Written::Either {
                thousands,
                decimal: amount,
            });
        }
    }
    Some(Written::Plain { amount, currency })
}

/// The code of a currency that stands beside an amount; the outer `None` where it is none.
fn code(mark: &str) -> Option<Option<String>> {
    if mark.len() == 3 && mark.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Some(Some(mark.to_ascii_uppercase()));
    }
    let symbol = mark.chars().any(|c| SYMBOLS.contains(c));
    let short = mark.chars().count() <= 3;
    let rest = mark
        .chars()
        .all(|c| SYMBOLS.contains(c) || c.is_ascii_alphabetic());
    (symbol && short && rest).then(|| match mark {
        "€" => Some("EUR".to_owned()),
        "£" => Some("GBP".to_owned()),
        _ => None,
    })
}

/// What stands before and after the sign of the decimals: the later of point and comma, unless
/// there are several of it.
fn split(number: &str) -> (&str, Option<&str>) {
    let Some(last) = number.rfind(['.', ',']) else {
        return (number, None);
    };
    let (whole, fraction) = (&number[..last], &number[last + 1..]);
    if whole.contains(&number[last..=last]) {
        return (number, None);
    }
    (whole, Some(fraction))
}

/// The number without its groups; `None` where they aren't groups of thousands.
fn plain(whole: &str, fraction: Option<&str>) -> Option<String> {
    let separator = whole.find(|c: char| !c.is_ascii_digit());
    let separator = separator.and_then(|at| whole[at..].chars().next());
    let digits: String = match separator {
        None => whole.to_owned(),
        Some(separator) if matches!(separator, '.' | ',') || SPACERS.contains(&separator) => {
            let mut groups = whole.split(separator);
            let first = groups.next()?;
            if !(1..=3).contains(&first.len()) || groups.clone().any(|group| group.len() != 3) {
                return None;
            }
            std::iter::once(first).chain(groups).collect()
        }
        Some(_) => return None,
    };
    let digits = if digits.is_empty() { "0" } else { &digits };
    let amount = match fraction {
        Some(fraction) => format!("{digits}.{fraction}"),
        None => digits.to_owned(),
    };
    let only_digits = amount
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    (only_digits && Revenue::parse(&amount).is_ok()).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_plainly() {
        for (sent, amount, currency) in [
            ("1,50", "1.50", None),
            (" 1,5\n", "1.5", None),
            (",50", "0.50", None),
            ("0,005", "0.005", None),
            ("1.000,00", "1000.00", None),
            ("1,000.00", "1000.00", None),
            ("1,234,567", "1234567", None),
            ("1.234.567,8", "1234567.8", None),
            ("1 234,50", "1234.50", None),
            ("1\u{a0}234", "1234", None),
            ("1'000.50", "1000.50", None),
            ("$5", "5", Some(None)),
            ("US$ 1.50", "1.50", Some(None)),
            ("€5", "5", Some(Some("EUR"))),
            ("5,00 €", "5.00", Some(Some("EUR"))),
            ("5.25usd", "5.25", Some(Some("USD"))),
            ("EUR 1.000,5", "1000.5", Some(Some("EUR"))),
        ] {
            let expected = Written::Plain {
                amount: amount.to_owned(),
                currency: currency.map(|code: Option<&str>| code.map(str::to_owned)),
            };
            assert_eq!(written(sent.as_bytes()), Some(expected), "{sent}");
        }
        let either = Written::Either {
            thousands: "1000".to_owned(),
            decimal: "1.000".to_owned(),
        };
        assert_eq!(written(b"1,000"), Some(either));
    }

    #[test]
    fn what_is_no_amount_is_left_alone() {
        for sent in [
            "",
            "abc",
            "NaN",
            "INF",
            "0x1A",
            "-1,50",
            "1,50-",
            "1,00,000",
            "12,34,56",
            "1.2.3",
            "1,2 3",
            "$5 USD",
            "€€€€5",
            "5 apples",
            ",",
            "1e5,0",
            "99999999999999,50",
            "2025-11-26",
        ] {
            assert_eq!(written(sent.as_bytes()), None, "{sent}");
        }
        assert_eq!(written(b"1,5\xff"), None);
        assert_eq!(written("1,".repeat(100_000).as_bytes()), None);
    }
}
