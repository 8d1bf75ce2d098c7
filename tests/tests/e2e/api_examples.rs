//! The examples of docs/API.md, pasted one after the other: each answers what stands below it.

use postern_tests::pages::blocks_of;
use postern_tests::stack::TOKEN;
use postern_tests::{Stack, on_both, process, wait};
use serde_json::Value;
use std::process::Command;

on_both!(alone &[]; every_example);

/// Where `make run` serves.
const ADDRESS: &str = "http://127.0.0.1:8080";
/// What differs each time.
const ANY: &str = "…";

async fn every_example(stack: &mut Stack) {
    let mut variables = String::new();
    let mut call: Option<String> = None;
    let mut compared = 0;
    for block in blocks_of("docs/API.md", |_| true) {
        let text = block.text.trim_end();
        match block.language.as_str() {
            "" => {}
            "sh" if text.contains("CLICKS=") => {
                variables = ["CLICKS", "ADMIN"]
                    .map(|name| {
                        let value = sh(stack, &format!("{text}\nprintf %s \"${name}\""));
                        format!("{name}={value}\n")
                    })
                    .concat();
            }
            // The signing program is another test's.
            "sh" if !text.contains(ADDRESS) => {}
            "sh" => assert_eq!(
                call.replace(text.to_owned()),
                None,
                "nothing stands below it"
            ),
            "json" | "csv" | "text" => {
                let call = call.take().unwrap_or_else(|| panic!("of what? {text}"));
                let script = format!("{variables}{call}");
                answers(stack, &script, &block.language, text).await;
                compared += 1;
            }
            other => panic!("a block of {other:?}"),
        }
    }
    assert!(compared > 15, "{compared}");
}

/// What is published, or logged, a moment later is waited for.
async fn answers(stack: &Stack, script: &str, language: &str, expected: &str) {
    let late = ["/v1/click?", "/v1/postbacks?", "/v1/stats"]
        .iter()
        .any(|path| script.contains(path));
    let actual = sh(stack, script);
    if !late || same(language, expected, &actual) {
        assert!(
            same(language, expected, &actual),
            "{script}\nanswers\n{actual}\ninstead of\n{expected}"
        );
        return;
    }
    wait::until(&format!("{script} answers {expected}"), async || {
        same(language, expected, &sh(stack, script)).then_some(())
    })
    .await;
}

fn same(language: &str, expected: &str, actual: &str) -> bool {
    if language != "json" {
        let actual = actual.trim_end().replace("\r\n", "\n");
        return fits(expected, &actual);
    }
    let read = |text: &str| serde_json::from_str::<Value>(text);
    match (read(expected), read(actual)) {
        // Keys in their order too.
        (Ok(wanted), Ok(is)) => fits_json(&wanted, &is) && keys(expected) == keys(actual),
        (Err(error), _) => panic!("{error}: {expected}"),
        _ => false,
    }
}

fn fits_json(wanted: &Value, is: &Value) -> bool {
    match (wanted, is) {
        (Value::String(wanted), Value::String(is)) => fits(wanted, is),
        (Value::Array(wanted), Value::Array(is)) => {
            wanted.len() == is.len() && wanted.iter().zip(is).all(|(a, b)| fits_json(a, b))
        }
        (Value::Object(wanted), Value::Object(is)) => {
            wanted.len() == is.len()
                && wanted
                    .iter()
                    .all(|(key, a)| is.get(key).is_some_and(|b| fits_json(a, b)))
        }
        _ => wanted == is,
    }
}

/// The names of all fields, in the order in which they stand.
fn keys(json: &str) -> Vec<&str> {
    let parts: Vec<&str> = json.split('"').collect();
    parts
        .windows(2)
        .filter(|pair| pair[1].starts_with(':'))
        .map(|pair| pair[0])
        .collect()
}

/// Whether `is` is `wanted` with something in place of each `…`.
fn fits(wanted: &str, is: &str) -> bool {
    let mut parts = wanted.split(ANY);
    let Some(mut rest) = is.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// Each role is asked where it serves; `postern` is the tested one.
fn sh(stack: &Stack, script: &str) -> String {
    let reports = [
        "/v1/postback/status",
        "/v1/postbacks",
        "/v1/conversions",
        "/v1/stats",
        "/v1/campaigns",
    ];
    let mut script = script.to_owned();
    for path in reports {
        let there = format!("http://{}{path}", stack.reports_address());
        script = script.replace(&format!("{ADDRESS}{path}"), &there);
    }
    let script = script.replace(ADDRESS, &format!("http://{}", stack.ingress.http));
    let directory = &stack.ingress.dir;
    std::fs::create_dir_all(directory.join("data")).unwrap();
    std::fs::write(directory.join("data/clicks.token"), TOKEN).unwrap();
    let postern = process::binary();
    let script = format!("postern() {{ '{}' \"$@\"; }}\n{script}", postern.display());
    let mut command = Command::new("sh");
    command.args(["-euc", &script]).current_dir(directory);
    process::equip(&mut command, &stack.command_settings());
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
