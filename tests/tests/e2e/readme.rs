//! The README's first postback works as it stands there.

use crate::body;
use postern_tests::pages::blocks_of;
use postern_tests::stack::TOKEN;
use postern_tests::{Stack, on_both};
use serde_json::Value;
use std::process::Command;

/// The body of the API page, with its keys in their order.
const CONVERTED: &str = r#"{"status":"ok","clickid":"22d69d308430f3eaaa569df11e17fb36","campaign_id":18,"revenue":1.23,"currency":"USD","created_at":"2025-11-26 14:32:10"}"#;
const DUPLICATE: &str = r#"{"status":"ok","note":"duplicate","message":"Conversion for this clickid already exists","clickid":"22d69d308430f3eaaa569df11e17fb36","campaign_id":18,"revenue":1.23,"currency":"USD"}"#;
/// Where `make run` serves.
const ADDRESS: &str = "127.0.0.1:8080";

on_both!(alone &[]; first_postback);

async fn first_postback(stack: &mut Stack) {
    let blocks = blocks_of("README.md", |heading| heading.contains("First postback"));
    let mut script = String::new();
    let mut told: Option<String> = None;
    let mut seen = Vec::new();
    for block in &blocks {
        match block.language.as_str() {
            "sh" => {
                let text = block.text.replace(ADDRESS, &stack.ingress.http.to_string());
                if !text.contains("curl") {
                    script.push_str(&text);
                    continue;
                }
                assert_eq!(text.matches("curl").count(), 1, "one per block: {text}");
                told = Some(sh(stack, &format!("{script}{text}")));
            }
            "json" => {
                let expected = block.text.trim();
                // The last of them can't be had from a stack that works.
                let actual = match told.take() {
                    Some(told) => told,
                    None => {
                        assert_eq!(expected, body::INTERNAL_ERROR);
                        seen.push(expected.to_owned());
                        continue;
                    }
                };
                same(expected, &actual);
                seen.push(expected.to_owned());
            }
            other => panic!("a block of {other:?} under First postback"),
        }
    }
    for page in [
        CONVERTED,
        DUPLICATE,
        body::MISSING_CLICKID,
        body::CLICK_NOT_FOUND,
        body::INTERNAL_ERROR,
    ] {
        assert!(
            seen.iter().any(|body| body == page),
            "not in the README: {page}"
        );
    }
    crate::bad_input::without_kafka().await;
}

fn sh(stack: &Stack, script: &str) -> String {
    let dir = &stack.ingress.dir;
    // `make run` keeps it there; here it is configured.
    std::fs::create_dir_all(dir.join("data")).unwrap();
    std::fs::write(dir.join("data/clicks.token"), TOKEN).unwrap();
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(dir)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Key by key in order, values to the letter, but for the time.
#[track_caller]
fn same(expected: &str, actual: &str) {
    let time = |body: &str| {
        let json: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
        json["created_at"].as_str().map(str::to_owned)
    };
    match (time(expected), time(actual)) {
        (Some(stands), Some(is)) => {
            assert!(body::is_time(&is), "{actual}");
            assert_eq!(expected, actual.replace(&is, &stands));
        }
        (None, None) => assert_eq!(expected, actual),
        _ => panic!("{actual} instead of {expected}"),
    }
}
