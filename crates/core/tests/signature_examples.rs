//! The programs of docs/examples/signature held against the core: what they print is taken as
//! signed, and all of them print the same.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod php;

use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use php::Random;
use postern_core::campaign::PostbackSecret;
use postern_core::campaign::signature::{Signature, canonical, sign, verify};
use postern_core::request::{Incoming, Rules, understand};

const DIRECTORY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/examples/signature/"
);
const SECRET: &str = "-s3cret/with+all=kinds&of%signs$'\"";

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What an example's language can't be given as an argument.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Its arrays have a name once.
    RepeatedNames,
    /// Its arguments are texts.
    InvalidUtf8,
}

#[test]
fn php_signs() {
    check(
        "php",
        &["-n", "sign.php"],
        "php-cli",
        Without::RepeatedNames,
    );
}

#[test]
fn python_signs() {
    check("python3", &["sign.py"], "python3", Without::Nothing);
}

#[test]
fn node_signs() {
    check("node", &["sign.mjs"], "nodejs", Without::InvalidUtf8);
}

#[test]
fn the_shell_signs() {
    if is_installed("openssl", "openssl") {
        check("sh", &["sign.sh"], "dash", Without::Nothing);
    }
}

fn check(program: &str, arguments: &[&str], package: &str, without: Without) {
    if !is_installed(program, package) {
        return;
    }
    let mut sets = plain();
    if without != Without::RepeatedNames {
        let repeated = (0..12).map(|number| (b"b".to_vec(), (12 - number).to_string().into()));
        sets.push(repeated.chain(pairs(&[("clickid", "a")])).collect());
    }
    let mut random = Random::new();
    for _ in 0..4 {
        sets.push(generate(&mut random, without));
    }
    for set in sets {
        let output = Command::new(program)
            .current_dir(DIRECTORY)
            .args(arguments)
            .arg(SECRET)
            .args(set.iter().map(|(name, value)| argument(name, value)))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{errors}");
        let printed = String::from_utf8(output.stdout).unwrap();
        hold(&set, printed.strip_suffix('\n').unwrap());
    }
}

fn hold(set: &Pairs, printed: &str) {
    let secret = PostbackSecret::parse(SECRET).unwrap();
    let query = canonical(set.iter().map(|(name, value)| (&**name, &**value)));
    let sig = sign(&secret, &query);
    assert_eq!(printed, format!("{query}&sig={sig}"));

    assert!(verify(&read(printed), &secret), "{printed}");
    let other = PostbackSecret::parse(&SECRET.replace('3', "4")).unwrap();
    assert!(!verify(&read(printed), &other), "{printed}");
    let (_, after_first) = printed.split_once('&').unwrap();
    for changed in [
        format!("{query}1&sig={sig}"),
        format!("0=1&{query}&sig={sig}"),
        format!("{printed}&a=1"),
        format!("clickid=a&{after_first}"),
        format!("{printed}0"),
    ] {
        assert!(!verify(&read(&changed), &secret), "{changed}");
    }
    // The order of the names and the way of escaping are the caller's.
    let mut sorted = set.clone();
    sorted.sort_by(|(a, _), (b, _)| b.cmp(a));
    let escaped: Vec<_> = sorted
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    let reordered = format!("sig={sig}&{}", escaped.join("&"));
    assert!(verify(&read(&reordered), &secret), "{reordered}");
}

fn read(query: &str) -> Signature {
    let incoming = Incoming {
        query: query.as_bytes(),
        body: None,
    };
    let fields = understand(&incoming, &Rules::default());
    fields.unwrap().signature.unwrap()
}

/// Everything escaped but blanks, which are written as a form writes them.
fn escape(bytes: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        b' ' => "+".to_owned(),
        _ => format!("%{byte:02x}"),
    };
    bytes.iter().map(escape).collect()
}

fn argument(name: &[u8], value: &[u8]) -> std::ffi::OsString {
    OsStr::from_bytes(&[name, b"=", value].concat()).to_owned()
}

fn pairs(texts: &[(&str, &str)]) -> Pairs {
    let bytes = |text: &str| text.as_bytes().to_vec();
    texts
        .iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

fn plain() -> Vec<Pairs> {
    vec![
        pairs(&[("clickid", "abc"), ("revenue", "1.50"), ("currency", "EUR")]),
        pairs(&[
            ("txid", "a b+c&d=e%f%41~*'()!/?#[]{}\"\\$`;:@,<>^|"),
            ("clickid", "x"),
            ("subid0", ""),
            ("subid1", "größe €😀"),
            ("subid2", " \t\nlines\r\n\n"),
            ("subid3", "\u{7f}\u{1}-e\\n\\101%s"),
            ("subid4", &"=".repeat(100)),
        ]),
        // Order: numbers as texts, upper before lower case, bytes and not what they are escaped
        // to, nor UTF-16's order.
        pairs(&[
            ("clickid", "x"),
            ("é", "1"),
            ("~", "2"),
            ("[", "3"),
            ("Z", "4"),
            ("a", "5"),
            ("10", "6"),
            ("9", "7"),
            ("ab", "8"),
            ("a b", "9"),
            ("a-b", "10"),
            ("a.b", "11"),
            ("\u{ffee}", "12"),
            ("😀", "13"),
            ("-n", "14"),
            ("Clickid", "15"),
        ]),
    ]
}

/// Bytes of all kinds but NUL, which an argument can't have. Every name is another one.
fn generate(random: &mut Random, without: Without) -> Pairs {
    let mut text = |length: usize, not: u8| {
        let bytes: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        let kept: Vec<u8> = match without {
            Without::InvalidUtf8 => String::from_utf8_lossy(&bytes).into_owned().into_bytes(),
            _ => bytes,
        };
        kept.into_iter()
            .filter(|&byte| byte != 0 && byte != not)
            .collect::<Vec<u8>>()
    };
    let mut set = pairs(&[("clickid", "x")]);
    for number in 0..8 {
        let mut name = text(3, b'=');
        name.extend(format!("{number}").bytes());
        set.push((name, text(40, 0)));
    }
    set
}

/// Under `CI=true` a missing program is a failure.
fn is_installed(program: &str, package: &str) -> bool {
    match Command::new(program).arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let hint = format!("{program} is not installed (Debian: apt-get install {package})");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{hint}");
            // Straight to the error stream: the test runner keeps what a passing test prints.
            let line = format!("NOT RUN: {hint}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            false
        }
        Err(error) => panic!("{program}: {error}"),
        Ok(_) => true,
    }
}
