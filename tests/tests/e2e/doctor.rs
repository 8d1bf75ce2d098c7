//! `postern doctor`: everything in order, and each thing that may not be.

use crate::bad_input::nobody;
use postern_tests::process::{run, settings};
use postern_tests::{Kind, Stack, directory, on_both};

on_both!(shared: everything_in_order, what_is_broken);

/// Its lines, and whether it was content.
fn doctor(stack: &Stack, told: &[(&str, &str)]) -> (Vec<String>, bool, String) {
    let mut all = stack.command_settings();
    all.insert("KAFKA__BROKERS".to_owned(), stack.bootstrap.clone());
    all.insert("KAFKA__ALLOW_SINGLE_REPLICA".to_owned(), "true".to_owned());
    all.extend(settings(told));
    let output = run(&["doctor"], &all);
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let lines = text.lines().map(str::to_owned).collect();
    (lines, output.status.success(), error)
}

fn line<'a>(lines: &'a [String], word: &str, what: &str) -> &'a str {
    let start = format!("{word:<7} {what:<14} ");
    let found = lines.iter().find(|line| line.starts_with(&start));
    found.unwrap_or_else(|| panic!("no {start:?} in {lines:#?}"))
}

async fn everything_in_order(stack: &Stack) {
    let data = directory::fresh("data").display().to_string();
    let (lines, content, error) = doctor(stack, &[("DATA_DIR", &data)]);
    assert!(content, "{lines:#?}\n{error}");
    for what in ["configuration", "kafka", "data_dir"] {
        line(&lines, "ok", what);
    }
    if stack.kind == Kind::Real {
        for what in ["topics", "store", "schema", "belongs", "clock"] {
            line(&lines, "ok", what);
        }
    }
    assert_eq!(
        std::fs::read_dir(data).unwrap().count(),
        0,
        "it leaves nothing"
    );
}

async fn what_is_broken(stack: &Stack) {
    let nobody = nobody().await.to_string();
    let url = format!("postgres://postern:s3cret@{nobody}/postern");
    let told = [
        ("KAFKA__BROKERS", nobody.as_str()),
        ("STORE__URL", &url),
        ("DATA_DIR", "/proc"),
    ];
    let (lines, content, error) = doctor(stack, &told);
    assert!(!content, "{lines:#?}");
    assert!(error.contains("3 of these must be mended"), "{error}");
    assert!(line(&lines, "BROKEN", "kafka").contains("kafka.brokers"));
    line(&lines, "-", "topics");
    assert!(line(&lines, "BROKEN", "store").contains("store.url"));
    line(&lines, "BROKEN", "data_dir");
    assert!(!lines.concat().contains("s3cret"), "a password: {lines:#?}");
    // Another number of partitions than the topics have.
    let (lines, content, _) = doctor(stack, &[("KAFKA__PARTITIONS", "77")]);
    assert!(
        !content || lines.iter().any(|line| line.starts_with("odd")),
        "{lines:#?}"
    );
}
