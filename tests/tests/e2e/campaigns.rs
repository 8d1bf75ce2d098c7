//! Setting campaigns: over HTTP, on the command line, and what comes of it elsewhere.

use crate::body::{self, duplicate};
use postern_tests::stack::{Kind, unique, unique_campaign};
use postern_tests::{Answer, Stack, http, on_both, wait};
use std::process::Command;
use std::time::{Duration, Instant};

on_both!(shared:
    set_and_read_over_http,
    only_for_admins,
    errors_name_the_field,
    set_on_the_command_line,
    imported_whole_or_not_at_all,
    running_processes_hear_of_it,
);

fn campaign_of(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    body::has_common_headers(answer);
    answer.json()["campaign"].clone()
}

async fn set_and_read_over_http(stack: &Stack) {
    let (admin, id) = (stack.admin_token(), unique_campaign());
    let answer = stack.campaign(&admin, id, None).await;
    answer.is_error(404, "campaign_not_found");
    let settings = r#"{"name":"Spring","advertiser":"Acme","dedupe":"txid","networks":["10.1.2.3/8"],
        "secret":"0123456789abcdef","attribution_window":86400}"#;
    let set = campaign_of(&stack.campaign(&admin, id, Some(settings)).await);
    assert_eq!(set["version"], 1);
    assert_eq!(set["networks"][0], "10.0.0.0/8");
    assert_eq!(set["secret_set"], true);
    assert_eq!(set["status"], "active");
    assert!(!set.to_string().contains("0123456789abcdef"));
    let read = stack.campaign(&admin, id, None).await;
    assert_eq!(campaign_of(&read), set);
    // What was read can be sent back, and changes nothing.
    let again = stack.campaign(&admin, id, Some(&set.to_string())).await;
    assert_eq!(campaign_of(&again), set);
    // Left out is the default again, but for the secret.
    let cleared = campaign_of(&stack.campaign(&admin, id, Some(r#"{"name":"x"}"#)).await);
    assert_eq!(
        (&cleared["dedupe"], &cleared["secret_set"]),
        (&"click".into(), &true.into())
    );
    assert_eq!(cleared["version"], 2);
    let removed = stack.campaign(&admin, id, Some(r#"{"secret":null}"#)).await;
    assert_eq!(campaign_of(&removed)["secret_set"], false);
    let late = stack.campaign(&admin, id, Some(r#"{"version":1}"#)).await;
    let message = late.is_error(409, "version_conflict");
    assert!(message.contains("version 3"), "{message}");
}

async fn only_for_admins(stack: &Stack) {
    let id = unique_campaign();
    for token in [
        "",
        "pst_",
        &format!("pst_{}", "0".repeat(64)),
        postern_tests::stack::TOKEN,
    ] {
        for body in [None, Some("{}")] {
            let answer = stack.campaign(token, id, body).await;
            answer.is_error(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    let address = stack.reports_address();
    let target = format!("/v1/campaigns/{id}");
    http::get(address, &target)
        .await
        .is_error(401, "unauthorized");
    let answer = http::request(address, "DELETE", &target, &[], None).await;
    answer.is_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, PUT"));
    let output = stack.command(&["token", "create"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("--admin"), "{error}");
}

async fn errors_name_the_field(stack: &Stack) {
    let (admin, id) = (stack.admin_token(), unique_campaign());
    for (settings, field) in [
        (r#"{"networks":["10.0.0.0/33"]}"#, "networks"),
        (r#"{"tracking_url":"javascript:alert(1)"}"#, "tracking_url"),
        (
            r#"{"tracking_url":"https://shop.example/?{what}"}"#,
            "tracking_url",
        ),
        (
            r#"{"tracking_url":"https://{subid0}.example/"}"#,
            "tracking_url",
        ),
        (r#"{"default_status":"fine"}"#, "default_status"),
        (r#"{"secret":"short"}"#, "secret"),
        (r#"{"colour":"red"}"#, "colour"),
        (r#"{"campaign_id":1}"#, "campaign_id"),
    ] {
        let answer = stack.campaign(&admin, id, Some(settings)).await;
        let message = answer.is_error(400, "invalid_campaign");
        assert!(message.starts_with(field), "{message}");
        assert_eq!(answer.json()["field"], field);
        assert!(!answer.body.contains("short"), "{answer:?}");
    }
    for body in ["", "[]", "{", "{}x"] {
        let answer = stack.campaign(&admin, id, Some(body)).await;
        answer.is_error(400, "malformed_json");
    }
    let answer = stack
        .campaign(&admin, id, Some(&"x".repeat(1024 * 1024 + 1)))
        .await;
    answer.is_error(413, "body_too_large");
    stack
        .campaign(&admin, -1, None)
        .await
        .is_error(404, "campaign_not_found");
    // Nothing of it was written.
    stack
        .campaign(&admin, id, None)
        .await
        .is_error(404, "campaign_not_found");
}

async fn set_on_the_command_line(stack: &Stack) {
    let id = unique_campaign().to_string();
    let json = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
    let output = stack.command(&["campaign", "show", &id]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains(&id) && error.contains("nobody set it"),
        "{error}"
    );

    let set = [
        "campaign", "set", &id, "--name", "Spring", "--dedupe", "event",
    ];
    assert_eq!(json(&stack.said(&set))["version"], 1);
    let said = stack.said(&[
        "campaign",
        "set",
        &id,
        "--network",
        "192.0.2.0/24",
        "--network",
        "::1",
        "--attribution-window",
        "30d",
        "--statuses",
        "true",
        "--new-secret",
    ]);
    let shown = json(&said);
    let secret = shown["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 64);
    // What wasn't named stays.
    assert_eq!(
        (&shown["name"], &shown["dedupe"]),
        (&"Spring".into(), &"event".into())
    );
    assert_eq!(shown["attribution_window"], 30 * 24 * 60 * 60);
    assert_eq!(shown["networks"].as_array().unwrap().len(), 2);
    assert_eq!(shown["secret_set"], true);
    // A file's last line may end as it likes; the same secret is no change.
    let file = stack.ingress.dir.join(unique("secret"));
    for ending in ["\r\n", ""] {
        std::fs::write(&file, format!("0123456789abcdef{ending}")).unwrap();
        let path = file.to_str().unwrap();
        let said = stack.said(&["campaign", "set", &id, "--secret-file", path]);
        assert!(!said.contains("0123456789abcdef"), "{said}");
        let kept = json(&said);
        assert_eq!(
            (&kept["version"], &kept["secret_set"]),
            (&3.into(), &true.into())
        );
    }
    let cleared = stack.said(&[
        "campaign",
        "set",
        &id,
        "--no-networks",
        "--no-secret",
        "--no-attribution-window",
    ]);
    let cleared = json(&cleared);
    assert_eq!(cleared["secret_set"], false);
    assert_eq!(cleared["attribution_window"], serde_json::Value::Null);
    assert_eq!(json(&stack.said(&["campaign", "show", &id])), cleared);
    let before = json(&stack.said(&["campaign", "show", &id, "--version", "2"]));
    assert_eq!(
        (&before["version"], &before["secret_set"]),
        (&2.into(), &true.into())
    );
    let list = stack.said(&["campaign", "list"]);
    let row = format!("{id}\t4\tactive\tevent\t\tSpring\t");
    assert!(list.lines().any(|line| line == row), "{list}");
    let lines = stack.said(&["campaign", "list", "--json"]);
    let mut line = cleared.clone();
    line.as_object_mut().unwrap().remove("version");
    assert!(lines.lines().map(json).any(|one| one == line), "{lines}");

    for (flag, value) in [
        ("--network", "10.0.0.0/33"),
        ("--tracking-url", "ftp://shop.example/"),
        ("--dedupe", "all"),
        ("--secret-file", "/no/such/file"),
        ("--attribution-window", "1500ms"),
    ] {
        let output = stack.command(&["campaign", "set", &id, flag, value]);
        assert!(!output.status.success(), "{flag} {value}");
        let error = String::from_utf8_lossy(&output.stderr);
        let named = error.contains(flag) || error.contains(value);
        assert!(named, "{flag} {value}: {error}");
    }
    assert_eq!(json(&stack.said(&["campaign", "show", &id])), cleared);
}

async fn imported_whole_or_not_at_all(stack: &Stack) {
    let [one, two] = [unique_campaign(), unique_campaign()];
    let file = stack.ingress.dir.join(unique("import"));
    let path = file.to_str().unwrap();
    let write = |text: String| std::fs::write(&file, text).unwrap();
    write(format!(
        "{{\"campaign_id\":{one},\"dedupe\":\"txid\"}}\n\n{{\"campaign_id\":{two},\"networks\":[\"x\"]}}\n\
         nothing\n"
    ));
    let output = stack.command(&["campaign", "import", path]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("line 3: networks") && error.contains("line 4"),
        "{error}"
    );
    let output = stack.command(&["campaign", "show", &one.to_string()]);
    assert!(!output.status.success(), "half of it was written");

    write(format!(
        "{{\"campaign_id\":{one},\"dedupe\":\"txid\"}}\n{{\"campaign_id\":{two}}}\n"
    ));
    let said = stack.said(&["campaign", "import", path]);
    assert_eq!(said.trim(), "2 new, 0 changed, 0 unchanged");
    write(format!(
        "{{\"campaign_id\":{one}}}\n{{\"campaign_id\":{two}}}\n"
    ));
    let said = stack.said(&["campaign", "import", path]);
    assert_eq!(said.trim(), "0 new, 1 changed, 1 unchanged");
}

/// The version that the log says a postback was decided by.
fn decided_by(stack: &Stack, answer: &Answer) -> String {
    let id = answer.header("x-request-id").unwrap();
    let query = format!("SELECT policy_version FROM postback_log WHERE request_id = '{id}'");
    let mut command = if stack.kind == Kind::Embedded {
        let mut command = Command::new("sqlite3");
        command.args(["-readonly", "-cmd", ".timeout 10000"]);
        command.arg(stack.ingress.dir.join("data/postern.db"));
        command
    } else {
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", &stack.settings["STORE__URL"], "-c"]);
        command
    };
    let output = command.arg(query).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A change takes effect on running consumers, is in the log with its version, and goes out on
/// the topic without its secret.
async fn running_processes_hear_of_it(stack: &Stack) {
    let (admin, id) = (stack.admin_token(), unique_campaign());
    let clickid = unique("policy");
    stack.click(&clickid, id).await;
    let sale = async |txid: &str| {
        let query = format!("clickid={clickid}&txid={txid}&revenue=1");
        stack.postback(&query).await
    };
    body::converted(&sale("1").await, &clickid, id, "1", "USD");
    let answer = sale("2").await;
    answer.is(200, &duplicate(&clickid, id, "1", "USD"));
    assert_eq!(decided_by(stack, &answer), "0");
    let settings = r#"{"dedupe":"txid","secret":"0123456789abcdef","signature_check":"observe"}"#;
    campaign_of(&stack.campaign(&admin, id, Some(settings)).await);
    let changed = Instant::now();
    let answer = wait::until("the second sale converts", async || {
        let answer = sale("2").await;
        answer.json().get("note").is_none().then_some(answer)
    })
    .await;
    let took = changed.elapsed();
    assert!(took < Duration::from_secs(5), "after {took:?}");
    body::converted(&answer, &clickid, id, "1", "USD");
    assert_eq!(decided_by(stack, &answer), "1");

    let key = id.to_string();
    let records = stack
        .records("postern.campaigns", |record| record.key == key)
        .await;
    let record = records.last().unwrap();
    assert_eq!(record.json()["version"], 1);
    assert_eq!(record.json()["campaign_id"], id);
    assert!(!record.value.contains("0123456789abcdef"), "{record:?}");
}
