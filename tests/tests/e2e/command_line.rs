//! `postern send`, `postern config` and `postern completions`.

use postern_tests::process::{run, settings};
use postern_tests::stack::TOKEN;
use postern_tests::{Stack, on_both};
use serde_json::Value;
use std::process::Output;

on_both!(shared: a_story, a_story_of_refusals);

fn send(stack: &Stack, arguments: &[&str]) -> (String, bool, String) {
    let mut all = stack.command_settings();
    all.insert("CLICKS__TOKEN".to_owned(), TOKEN.to_owned());
    let output = run(&[&["send"], arguments].concat(), &all);
    let (text, error) = texts(&output);
    assert!(!format!("{text}{error}").contains(TOKEN), "{text}{error}");
    (text, output.status.success(), error)
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// What stands behind a word at the beginning of a line.
fn line<'a>(text: &'a str, word: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(word));
    found
        .unwrap_or_else(|| panic!("no {word:?} in {text}"))
        .trim()
}

async fn a_story(stack: &Stack) {
    let url = format!("http://{}/v1/postback.php?revenue=1.50", stack.ingress.http);
    let reports = format!("http://{}", stack.reports_address());
    let told = ["--campaign", "18", "--reports", &reports];
    let (text, content, error) = send(stack, &[&[url.as_str()], &told[..]].concat());
    assert!(content, "{text}{error}");
    assert!(line(&text, "click ").starts_with("200 in "), "{text}");
    let clickid = line(&text, "clickid ");
    let answer = line(&text, "postback ");
    assert!(answer.starts_with("200 in "), "{text}");
    let body: Value = serde_json::from_str(answer.split_once("  ").unwrap().1).unwrap();
    assert_eq!(body["clickid"], clickid);
    assert_eq!(body["revenue"].to_string(), "1.5");
    assert!(
        line(&text, "became ").starts_with("converted, received 20"),
        "{text}"
    );
    let outcome = stack.outcome(line(&text, "request id ")).await;
    assert_eq!(outcome["answer"]["clickid"], clickid);
    // The same once more, as a caller's retry.
    let again = format!("{url}&clickid={clickid}");
    let (text, content, error) = send(stack, &[&again, "--reports", &reports]);
    assert!(content, "{text}{error}");
    assert!(line(&text, "became ").starts_with("duplicate"), "{text}");
}

async fn a_story_of_refusals(stack: &Stack) {
    let ingress = format!("http://{}/v1/postback.php", stack.ingress.http);
    let reports = format!("http://{}", stack.reports_address());
    let (text, content, error) = send(stack, &[&ingress, "--reports", &reports]);
    assert!(!content, "{text}");
    assert!(line(&text, "postback ").starts_with("400 in "), "{text}");
    assert!(line(&text, "became ").starts_with("refused"), "{text}");
    assert!(error.contains("the postback was refused"), "{error}");
    let nobody = crate::bad_input::nobody().await;
    for (url, what) in [
        (
            format!("http://{nobody}/"),
            format!("http://{nobody} can't be asked"),
        ),
        ("https://localhost/".to_owned(), "only http://".to_owned()),
        ("localhost".to_owned(), "the URL can't be read".to_owned()),
    ] {
        let (_, content, error) = send(stack, &[&url]);
        assert!(!content && error.contains(&what), "{error}");
    }
}

#[test]
fn a_configuration_is_checked() {
    let checked = |told: &[(&str, &str)], roles: &[&str]| {
        let output = run(&[&["config", "check"], roles].concat(), &settings(told));
        let (text, error) = texts(&output);
        (text, error, output.status.success())
    };
    let store = ("STORE__URL", "postgres://postern:s3cret@localhost/postern");
    let (text, error, fine) = checked(&[store], &[]);
    assert!(fine, "{text}{error}");
    assert_eq!(text, "ok      ingress\nok      consumer\nok      reports\n");
    let (text, error, fine) = checked(&[], &["ingress", "consumer"]);
    assert!(!fine && text.starts_with("ok      ingress\nBROKEN  consumer: store.url"));
    assert!(error.contains("1 of 2 roles would not start"), "{error}");
    let (text, _, fine) = checked(&[store, ("ANSWER__TIMEOUT", "never")], &["reports"]);
    assert!(!fine && text.contains("answer.timeout"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

/// Neither of these reads the configuration.
#[test]
fn reference_and_completions() {
    let broken = settings(&[("NO__SUCH", "key")]);
    let page = std::fs::read_to_string(
        postern_tests::directory::repository().join("docs/CONFIGURATION.md"),
    );
    let output = run(&["config", "reference"], &broken);
    assert_eq!(texts(&output).0, page.unwrap());
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell], &broken);
        assert!(output.status.success());
        let (script, _) = texts(&output);
        for command in ["standalone", "doctor", "inspect"] {
            assert!(script.contains(command), "{shell}: no {command}");
        }
    }
}
