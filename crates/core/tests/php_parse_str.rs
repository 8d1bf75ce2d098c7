//! Query parsing held against php's own `parse_str`, over generated queries.
//!
//! Two differences are accepted, both listed in docs/MIGRATION.md and both written down in
//! [`as_php_would_be_asked`] and [`compare`]: nothing else is tolerated.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod php;

use std::collections::BTreeMap;

use php::Random;
use postern_core::request::query::{MAX_PARAMETERS, parse_str};

const QUERIES: usize = 30_000;

#[test]
fn parses_as_php_does() {
    let mut random = Random::new();
    let mut queries: Vec<Vec<u8>> = FIXED
        .iter()
        .map(|query| query.as_bytes().to_vec())
        .collect();
    // Deeper than PHP's limit of 64 levels, on which it drops the whole array.
    for levels in [63, 64, 65, 70] {
        let nested = format!("a=1&a{}=2&b=3", "[x]".repeat(levels));
        queries.push(nested.clone().into_bytes());
        queries.push(format!("{nested}&a=4").into_bytes());
    }
    for parameters in [
        1_000,
        1_001,
        MAX_PARAMETERS,
        MAX_PARAMETERS + 1,
        2 * MAX_PARAMETERS,
    ] {
        let pairs = (0..parameters).map(|number| format!("n{number}={number}&"));
        queries.push(pairs.collect::<String>().into_bytes());
    }
    while queries.len() < QUERIES {
        queries.push(generate(&mut random));
    }

    let records: Vec<_> = queries
        .iter()
        .map(|query| ('Q', as_php_would_be_asked(query)))
        .collect();
    let Some(answers) = php::ask(&records) else {
        return;
    };
    let mut with_scalars = 0;
    for (query, answer) in queries.iter().zip(&answers) {
        with_scalars += usize::from(!answer.is_empty());
        compare(query, answer);
    }
    // The generator is worth nothing if php finds nothing in what it makes.
    assert!(
        with_scalars > QUERIES / 2,
        "only {with_scalars} queries had any value"
    );
}

/// Difference 1: a NUL byte ends the whole string for `parse_str`; here it is what `%00` is. A
/// request line can't carry one, and PHP's own reading of a form body doesn't end there either.
fn as_php_would_be_asked(query: &[u8]) -> Vec<u8> {
    let mut asked = Vec::with_capacity(query.len());
    for &byte in query {
        match byte {
            0 => asked.extend(b"%00"),
            _ => asked.push(byte),
        }
    }
    asked
}

fn compare(query: &[u8], answer: &str) {
    let parsed = parse_str(query);
    let expected: BTreeMap<Vec<u8>, Vec<u8>> = answer
        .split_whitespace()
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (php::unhex(name), php::unhex(value))
        })
        .collect();
    let found: BTreeMap<Vec<u8>, Vec<u8>> = parsed
        .scalars()
        .into_iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    // Difference 2: the limit on parameters. Up to it everything must be equal; over it the
    // query says that it was cut, and holds the parameters up to the limit.
    let pairs = query
        .split(|&byte| byte == b'&')
        .filter(|pair| !pair.is_empty())
        .count();
    assert_eq!(
        parsed.is_cut(),
        pairs > MAX_PARAMETERS,
        "{}",
        query.escape_ascii()
    );
    if parsed.is_cut() {
        assert_eq!(found.len(), MAX_PARAMETERS);
        assert!(
            found
                .iter()
                .all(|(name, value)| expected.get(name) == Some(value))
        );
        return;
    }
    let show = |values: &BTreeMap<Vec<u8>, Vec<u8>>| -> Vec<String> {
        let show = |(name, value): (&Vec<u8>, &Vec<u8>)| {
            format!("{}={}", name.escape_ascii(), value.escape_ascii())
        };
        values.iter().map(show).collect()
    };
    assert_eq!(show(&found), show(&expected), "{}", query.escape_ascii());
}

/// Queries that are interesting by themselves.
const FIXED: &[&str] = &[
    "",
    "&",
    "=",
    "=&=",
    "clickid=abc&revenue=1.20",
    "a",
    "a=1&a=2",
    "a[]=1&a=2",
    "a=1&a[]=2",
    "a.b=1&a_b=2&a+b=3",
    "a[b.c d=1",
    "a[ ]=1",
    "a[ =1",
    "[a]=1",
    "a[b][c=1",
    "a[b]c=1",
    "a%00b=1",
    "a%5B%00%5D=1",
    "%",
    "a=%&b=%4&c=%zz",
    "123=1&0=2&-5=3&007=4&9999999999999999999=5",
    "GLOBALS=1&this=2&_GET=3",
    "a\0b=1&c=2\0",
];

/// Mostly a query with odd pieces in it, sometimes bytes without any structure.
fn generate(random: &mut Random) -> Vec<u8> {
    if random.below(8) == 0 {
        return (0..random.below(40)).map(|_| random.byte()).collect();
    }
    let mut query = Vec::new();
    for _ in 0..=random.below(6) {
        for _ in 0..random.below(4) {
            name_piece(random, &mut query);
        }
        if random.below(8) != 0 {
            query.push(b'=');
        }
        for _ in 0..random.below(4) {
            value_piece(random, &mut query);
        }
        if random.below(12) != 0 {
            query.push(b'&');
        }
    }
    query
}

fn name_piece(random: &mut Random, query: &mut Vec<u8>) {
    // Few names, so that repeated ones, and scalars against arrays, are common.
    const PIECES: &[&str] = &[
        "a", "a", "a", "b", "clickid", "7", "[", "]", "[]", "[x]", "[x][y]", "%5B", "%5d",
        "%5b%5D", ".", "+", " ", "%20", "%2e", "_", "\0", "%00", "%", "%%", "%4", "%g1", "%1",
        "%25", "%26", "%3D", "\t", "%0a", "%0B", ";", "[[", "]]", "[.", "[ ", "[%00", "é",
        "%C3%A9", "%ff",
    ];
    piece(random, query, PIECES);
}

fn value_piece(random: &mut Random, query: &mut Vec<u8>) {
    const PIECES: &[&str] = &[
        "1",
        "abc",
        "1.20",
        "+",
        "%2B",
        "%2b",
        "%",
        "%%",
        "%4",
        "%zz",
        "%4g",
        "%g4",
        "%25",
        "%2541",
        "=",
        "==",
        "[",
        "]",
        ".",
        " ",
        "\0",
        "%00",
        ";",
        "%26",
        "%3d",
        "é",
        "%C3%A9",
        "%c3",
        "%FF",
        "{clickid}",
        "%7Bx%7D",
        "#",
        "?",
        "/",
        "\r\n",
        "%0D%0A",
    ];
    piece(random, query, PIECES);
}

fn piece(random: &mut Random, query: &mut Vec<u8>, pieces: &[&'static str]) {
    match random.below(12) {
        0 => query.push(random.byte()),
        1 => query.extend(format!("%{:02x}", random.byte()).bytes()),
        2 => query.extend(format!("%{:02X}", random.byte()).bytes()),
        _ => query.extend(random.pick(pieces).bytes()),
    }
}
