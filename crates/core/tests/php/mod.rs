//! PHP as the judge: one process that is asked about many inputs.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/php/oracle.php");

/// Asks php about every record and gives its answers in the same order. `None` where there is no
/// php on this machine, which under `CI=true` is a failure.
pub fn ask(records: &[(char, Vec<u8>)]) -> Option<Vec<String>> {
    let spawned = Command::new("php")
        // No php.ini; warnings, which PHP also writes to the output, are not wanted in it.
        .args([
            "-n",
            "-d",
            "display_errors=0",
            "-d",
            "max_input_vars=1000000",
            SCRIPT,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut php = match spawned {
        Ok(php) => php,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "php is not installed (Debian: apt-get install php-cli)"
            );
            say_not_run();
            return None;
        }
        Err(error) => panic!("php: {error}"),
    };
    let mut input = Vec::new();
    for (kind, record) in records {
        input.push(u8::try_from(*kind).unwrap());
        input.extend(u32::try_from(record.len()).unwrap().to_be_bytes());
        input.extend(record);
    }
    let mut stdin = php.stdin.take().unwrap();
    // From a thread of its own: php answers while it reads, and both pipes are small.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let mut output = String::new();
    php.stdout
        .take()
        .unwrap()
        .read_to_string(&mut output)
        .unwrap();
    writer.join().unwrap().unwrap();
    assert!(php.wait().unwrap().success(), "php failed");
    let answers: Vec<_> = output.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), records.len(), "one answer for each record");
    Some(answers)
}

/// Straight to the error stream: the test runner keeps what a passing test prints to itself.
fn say_not_run() {
    let line = "NOT RUN: php is not installed (Debian: apt-get install php-cli)\n";
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Random numbers that are the same in every run (SplitMix64), unless `POSTERN_TEST_SEED` says
/// otherwise.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let seed = std::env::var("POSTERN_TEST_SEED");
        Self(seed.map_or(20_251_126, |seed| {
            seed.parse().expect("POSTERN_TEST_SEED is a number")
        }))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub fn pick<'a, T: ?Sized>(&mut self, among: &[&'a T]) -> &'a T {
        among[self.below(among.len())]
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
