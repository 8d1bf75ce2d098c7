//! Names that aren't ours, and which of ours they seem to mean.

use std::borrow::Cow;

use super::super::parameters::Parameters;
use super::super::query::{MAX_PARAMETERS, parse_str};
use super::super::text::quoted;
use super::super::{BodyKind, Incoming, signed, trim_blanks};
use super::Hint;
use crate::campaign::signature;

/// Bytes of a name that may still mean one of ours.
const LONGEST: usize = 32;
/// Shorter names of ours are too close to too many words.
const SHORTEST_MISSPELT: usize = 5;

/// What trackers and people call our fields; without capitals and signs. Where a name stands
/// twice, the first of its fields that has no value is meant.
const MEANT: [(&str, &[&str]); 6] = [
    (
        "clickid",
        &[
            "affclickid",
            "affsub",
            "cid",
            "click",
            "clickhash",
            "clickref",
            "clk",
            "clkid",
            "cnvid",
            "externalid",
            "hitid",
            "s2sid",
            "subid",
            "trackid",
            "trackingid",
            "uniqueid",
            "visitid",
            "visitorid",
        ],
    ),
    (
        "revenue",
        &[
            "amount",
            "amt",
            "commission",
            "conversionvalue",
            "earnings",
            "income",
            "orderamount",
            "ordersum",
            "ordertotal",
            "ordervalue",
            "payment",
            "price",
            "profit",
            "rev",
            "saleamount",
            "sum",
            "total",
            "value",
        ],
    ),
    (
        "currency",
        &["ccy", "cur", "curr", "currencycode", "currencyid"],
    ),
    (
        "txid",
        &[
            "conversionid",
            "convid",
            "externalid",
            "extid",
            "invoice",
            "invoiceid",
            "leadid",
            "oid",
            "order",
            "orderid",
            "orderno",
            "ordernumber",
            "purchaseid",
            "receipt",
            "saleid",
            "tranid",
            "transaction",
            "transid",
            "trx",
            "trxid",
            "tx",
            "txn",
            "txnid",
        ],
    ),
    (
        "event",
        &[
            "action",
            "actionid",
            "actionname",
            "conversiontype",
            "convtype",
            "eventid",
            "eventname",
            "eventtype",
            "goalid",
            "goalname",
            "goaltype",
        ],
    ),
    (
        "status",
        &[
            "conversionstatus",
            "convstatus",
            "leadstatus",
            "orderstatus",
            "salestatus",
            "state",
            "statusid",
        ],
    ),
];

/// A parameter that means nothing.
#[derive(Clone, Debug)]
pub(in super::super) struct Stranger<'a> {
    pub(in super::super) name: Cow<'a, [u8]>,
    /// Whether something came under it.
    pub(in super::super) filled: bool,
}

impl<'a> Stranger<'a> {
    /// Those of a request in the order in which they came, repeated ones included.
    pub(in super::super) fn all(incoming: &Incoming<'a>) -> Vec<Self> {
        let mut strangers: Vec<_> = Self::form(incoming.query).collect();
        match incoming.body {
            None => {}
            Some((BodyKind::Form, body)) => strangers.extend(Self::form(body)),
            Some((BodyKind::Json, body)) => strangers.extend(Self::json(body)),
        }
        strangers
    }

    fn form(encoded: &'a [u8]) -> impl Iterator<Item = Self> {
        let parameters = parse_str(encoded).into_parameters();
        parameters
            .filter(|parameter| !is_known(&parameter.name))
            .map(|parameter| Self {
                filled: parameter
                    .value
                    .is_some_and(|value| !trim_blanks(&value).is_empty()),
                name: parameter.name,
            })
    }

    fn json(body: &'a [u8]) -> impl Iterator<Item = Self> {
        let members = signed::members(body).unwrap_or_default().into_iter();
        members
            .filter(|(name, _)| !is_known(name.as_bytes()))
            .take(MAX_PARAMETERS)
            .map(|(name, raw)| Self {
                // A text that isn't empty, or a number.
                filled: match raw.as_bytes().first() {
                    Some(b'"') => !raw[1..raw.len() - 1].trim_ascii().is_empty(),
                    Some(first) => *first == b'-' || first.is_ascii_digit(),
                    None => false,
                },
                name: signed::into_bytes(name),
            })
    }
}

fn is_known(name: &[u8]) -> bool {
    name == signature::NAME || Parameters::index(name).is_some()
}

/// How sure it is that a name means one of ours, the surest first.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Sureness {
    /// The same but for capitals and signs.
    Same,
    /// Somebody's word for it.
    Word,
    /// One letter aside.
    Misspelt,
}

/// For each field without a value the name that most likely means it.
pub(super) fn meant(parameters: &Parameters<'_>, strangers: &[Stranger<'_>]) -> Vec<Hint> {
    let known = Parameters::NAMES.map(|name| bare(name.as_bytes()).unwrap_or_default());
    let mut best = [const { None }; Parameters::NAMES.len()];
    for stranger in strangers.iter().filter(|stranger| stranger.filled) {
        let Some((sureness, index)) = candidate(parameters, &known, &stranger.name) else {
            continue;
        };
        let place = &mut best[Parameters::field_of(index).start];
        if place.is_none_or(|(known, _, _)| sureness < known) {
            *place = Some((sureness, index, stranger));
        }
    }
    let hint = |(_, index, stranger): (_, _, &Stranger<'_>)| {
        let (sent, name) = (quoted(&stranger.name), Parameters::NAMES[index]);
        Hint {
            field: Parameters::field_of(index),
            text: if escaped(&stranger.name).is_some() {
                format!("you sent {sent}; write & and not &amp; before \"{name}\"")
            } else {
                format!("you sent {sent}; did you mean \"{name}\"?")
            },
        }
    };
    best.into_iter().flatten().map(hint).collect()
}

/// What is left of a name in front of which a whole `&amp;` was written for `&`.
fn escaped(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b"amp;")
}

/// The name of ours that is meant, by its index, of a field that has no value. `known` are our
/// names, bare.
fn candidate(
    parameters: &Parameters<'_>,
    known: &[String],
    name: &[u8],
) -> Option<(Sureness, usize)> {
    let sent = bare(escaped(name).unwrap_or(name))?;
    let indexed = || known.iter().enumerate();
    let same = indexed().filter(|(_, known)| **known == sent);
    let words = MEANT
        .iter()
        .filter(|(_, words)| words.contains(&sent.as_str()))
        .filter_map(|(name, _)| Parameters::index(name.as_bytes()));
    let misspelt = indexed().filter(|(_, known)| {
        known.len() >= SHORTEST_MISSPELT && is_one_edit(known.as_bytes(), sent.as_bytes())
    });
    let same = same.map(|(index, _)| (Sureness::Same, index));
    let words = words
        .chain(subid(sent.as_bytes()))
        .map(|index| (Sureness::Word, index));
    let misspelt = misspelt.map(|(index, _)| (Sureness::Misspelt, index));
    same.chain(words).chain(misspelt).find(|&(_, index)| {
        let field = Parameters::field_of(index);
        parameters.filled(field).next().is_none()
    })
}

/// A name without capitals and signs; `None` where it can't be one of ours.
fn bare(name: &[u8]) -> Option<String> {
    if name.len() > LONGEST || !name.is_ascii() {
        return None;
    }
    let letters = name.iter().filter(|byte| !b"-_. ".contains(byte));
    let bare: String = letters
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect();
    (!bare.is_empty()).then_some(bare)
}

/// `sub1`, `affsub3`: trackers count from 1, so the fifth is our `subid0`.
fn subid(bare: &[u8]) -> Option<usize> {
    let number = ["affsub", "subid", "sub"]
        .into_iter()
        .find_map(|prefix| bare.strip_prefix(prefix.as_bytes()))?;
    match number {
        [digit @ b'0'..=b'5'] => Some(Parameters::SUBIDS.start + usize::from(digit - b'0') % 5),
        _ => None,
    }
}

/// Whether one letter was left out, added, changed, or swapped with the next.
fn is_one_edit(a: &[u8], b: &[u8]) -> bool {
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    match (&a[..a.len() - end], &b[..b.len() - end]) {
        ([] | [_], [] | [_]) => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_one_edit_from_more() {
        for (a, b) in [
            ("clickid", "clickid"),
            ("clickid", "clikid"),
            ("clickid", "cllickid"),
            ("clickid", "clickids"),
            ("clickid", "xlickid"),
            ("clickid", "clikcid"),
            ("a", ""),
        ] {
            assert!(is_one_edit(a.as_bytes(), b.as_bytes()), "{a} {b}");
            assert!(is_one_edit(b.as_bytes(), a.as_bytes()), "{b} {a}");
        }
        for (a, b) in [
            ("clickid", "clikdi"),
            ("clickid", "lickd"),
            ("clickid", "clkcidi"),
            ("ab", ""),
            ("abc", "cba"),
        ] {
            assert!(!is_one_edit(a.as_bytes(), b.as_bytes()), "{a} {b}");
            assert!(!is_one_edit(b.as_bytes(), a.as_bytes()), "{b} {a}");
        }
    }

    #[test]
    fn words_are_written_as_they_are_compared() {
        for (name, words) in MEANT {
            assert!(Parameters::index(name.as_bytes()).is_some(), "{name}");
            for word in words {
                assert_eq!(bare(word.as_bytes()).as_deref(), Some(*word));
                assert!(
                    Parameters::NAMES.iter().all(|known| known != word),
                    "{word}"
                );
            }
        }
    }
}
