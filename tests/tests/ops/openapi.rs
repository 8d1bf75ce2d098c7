//! docs/openapi.json against running processes: schemathesis makes requests out of it, and holds
//! every answer against it.

use postern_tests::process::settings;
use postern_tests::stack::TOKEN;
use postern_tests::{Kind, Stack, directory, run};
use std::net::SocketAddr;
use std::process::Command;

/// No server error, and nothing that isn't documented.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,unsupported_method";
/// The ids in the document's examples.
const CLICKID: &str = "22d69d308430f3eaaa569df11e17fb36";

#[test]
#[ignore = "make test-ops"]
fn every_answer_is_documented_embedded() {
    every_answer_is_documented(Kind::Embedded);
}

#[test]
#[ignore = "make test-ops"]
fn every_answer_is_documented_kafka_postgres() {
    every_answer_is_documented(Kind::Real);
}

fn every_answer_is_documented(kind: Kind) {
    let found = Command::new(directory::repository().join("tests/schemathesis/st.sh")).output();
    let found = found.unwrap();
    let error = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "schemathesis is missing: {error}");
    let program = String::from_utf8(found.stdout).unwrap();
    run::alone(kind, &settings(&[]), async |stack: &mut Stack| {
        stack
            .import(r#"{"campaign_id":18,"statuses":true,"tracking_url":"https://shop.example/"}"#);
        stack.click(CLICKID, 18).await;
        let (ingress, reports) = (stack.ingress.http, stack.reports_address());
        let admin = stack.admin_token();
        let said = |what: &[&str], address, token: &str| said(&program, what, address, token);
        said(
            &["--include-tag", "ingress", "--exclude-path", "/v1/clicks"],
            ingress,
            "",
        );
        said(&["--include-path", "/v1/clicks"], ingress, TOKEN);
        said(&["--include-path", "/v1/clicks"], ingress, "wrong");
        said(&["--include-tag", "reports"], reports, &admin);
        said(&["--include-tag", "reports"], reports, "");
        said(&["--include-tag", "admin"], stack.ingress.admin, "");
    });
}

#[expect(clippy::print_stdout, reason = "how much was tested")]
fn said(program: &str, what: &[&str], address: SocketAddr, token: &str) {
    let mut command = Command::new(program.trim());
    command
        .arg("run")
        .arg(directory::repository().join("docs/openapi.json"))
        .args(["--url", &format!("http://{address}"), "--checks", CHECKS])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "50",
        ])
        .args([
            "--seed",
            "1",
            "--suppress-health-check",
            "all",
            "--no-color",
        ])
        .args(what)
        .current_dir(directory::fresh("schemathesis"));
    if !token.is_empty() {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{what:?}: {text}");
    let cases = text.lines().find(|line| line.contains(" generated, "));
    let cases = cases.unwrap_or_else(|| panic!("{what:?}: nothing was tested: {text}"));
    println!("schemathesis, {}: {}", what.join(" "), cases.trim());
}
