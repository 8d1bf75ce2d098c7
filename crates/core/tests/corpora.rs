//! What fuzzing starts from, and what it found: `fuzz/corpus`, without a fuzzer.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../fuzz/src/checks.rs"]
mod checks;

fn each(target: &str, check: impl Fn(&[u8])) {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/");
    let mut count = 0;
    for file in std::fs::read_dir(format!("{corpus}{target}")).unwrap() {
        let path = file.unwrap().path();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check(&std::fs::read(&path).unwrap());
        }));
        assert!(run.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count > 5, "{target}: {count}");
}

#[test]
fn query() {
    each("query", checks::query);
}

#[test]
fn form() {
    each("form", checks::form);
}

#[test]
fn json() {
    each("json", checks::json);
}

#[test]
fn record() {
    each("record", checks::record);
}

#[test]
fn cursor() {
    each("cursor", checks::cursor);
}
