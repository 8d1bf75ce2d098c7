//! Who may see what. What a token may not see is answered, byte for byte, as what doesn't exist.

use crate::body;
use postern_tests::checker::Installation;
use postern_tests::stack::{unique, unique_campaign};
use postern_tests::{Answer, Stack, http, on_both, wait};

on_both!(shared:
    every_endpoint_by_every_token,
    a_campaign_changes_hands,
    tokens_are_made_listed_and_revoked,
);
on_both!(alone &[
    ("HTTP__TRUSTED_PROXIES", "127.0.0.1"),
    ("REPORTS__FAILURES_PER_ADDRESS", "5"),
    ("LOG__FILTER", "trace,tokio_postgres=trace"),
]; wrong_tokens_are_limited_and_none_is_logged);

/// A campaign of an advertiser with one conversion.
struct Owned {
    id: i64,
    advertiser: String,
    clickid: String,
}

async fn owned(stack: &Stack) -> Owned {
    let (id, advertiser) = (unique_campaign(), unique("advertiser"));
    stack.import(&format!(
        r#"{{"campaign_id":{id},"advertiser":"{advertiser}"}}"#
    ));
    let clickid = unique("access");
    stack.click(&clickid, id).await;
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=1.5"))
        .await;
    body::converted(&answer, &clickid, id, "1.5", "USD");
    Owned {
        id,
        advertiser,
        clickid,
    }
}

fn token(stack: &Stack, arguments: &[&str]) -> String {
    let said = stack.said(&[&["token", "create"], arguments].concat());
    said.trim().to_owned()
}

/// The id by which `token list` names a token.
fn id_of(stack: &Stack, name: &str) -> String {
    let list = stack.said(&["token", "list"]);
    let line = list
        .lines()
        .find(|line| line.ends_with(&format!("\t{name}")));
    let line = line.unwrap_or_else(|| panic!("{name} is not in {list}"));
    line.split('\t').next().unwrap().to_owned()
}

/// By header or, with `parameter`, in the URL.
async fn read(stack: &Stack, target: &str, token: Option<&str>, parameter: bool) -> Answer {
    let reports = stack.reports_address();
    let (mut target, mut headers) = (target.to_owned(), Vec::new());
    let bearer = token.map(|token| format!("Bearer {token}"));
    if let (Some(token), true) = (token, parameter) {
        let mark = if target.contains('?') { '&' } else { '?' };
        target.push_str(&format!("{mark}token={token}"));
    } else if let Some(bearer) = &bearer {
        headers.push(("authorization", bearer.as_str()));
    }
    http::request(reports, "GET", &target, &headers, None).await
}

/// All that a caller sees of an answer, without what differs each time.
fn seen(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter().filter(|(name, _)| {
        !["x-request-id", "date"].contains(&name.to_ascii_lowercase().as_str())
    });
    (
        answer.status,
        headers.cloned().collect(),
        answer.body.clone(),
    )
}

/// Every endpoint that reads, about one campaign and its click.
fn targets(campaign: i64, clickid: &str) -> Vec<String> {
    let mut targets = vec![format!("/v1/campaigns/{campaign}")];
    for format in ["json", "ndjson", "csv"] {
        for path in ["conversions", "conversions.php"] {
            let by = format!("format={format}&history=1");
            targets.push(format!("/v1/{path}?{by}&campaign_id={campaign}"));
            targets.push(format!("/v1/{path}?{by}&clickid={clickid}"));
        }
        for path in ["stats", "stats.php"] {
            let groups = [
                "",
                "&group_by=day",
                "&group_by=site,source",
                "&group_by=subid0",
            ];
            for group in groups {
                let by = format!("format={format}{group}");
                targets.push(format!("/v1/{path}?{by}&campaign_id={campaign}"));
            }
        }
        for group in ["campaign", "hour", "currency", "event"] {
            let by = format!("format={format}&group_by={group}&clickid={clickid}");
            targets.push(format!("/v1/stats?{by}"));
        }
        let by = format!("format={format}&history=1");
        targets.push(format!("/v1/postbacks?{by}&raw_query={clickid}"));
        targets.push(format!("/v1/postbacks?{by}&campaign_id={campaign}"));
        targets.push(format!("/v1/postbacks?{by}&clickid={clickid}"));
    }
    targets
}

async fn every_endpoint_by_every_token(stack: &Stack) {
    let (mine, theirs) = (owned(stack).await, owned(stack).await);
    let nothing = (unique_campaign(), unique("nothing"));
    let [revoked, short] = ["revoked", "short"].map(unique);
    let campaign = mine.id.to_string();
    let good = [
        token(stack, &["--admin"]),
        token(stack, &["--advertiser", &mine.advertiser]),
        token(
            stack,
            &["--campaign", &campaign, &unique_campaign().to_string()],
        ),
    ];
    let worthless = [
        token(stack, &["--admin", "--name", &revoked]),
        token(stack, &["--admin", "--name", &short, "--expires", "10s"]),
        format!("pst_{}", "ab".repeat(32)),
    ];
    // Both are worth something first.
    for token in &worthless[..2] {
        let answer = read(stack, "/v1/stats", Some(token), false).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    stack.said(&["token", "revoke", &id_of(stack, &revoked)]);
    wait::until("the token expires", async || {
        let list = stack.said(&["token", "list"]);
        let line = list.lines().find(|line| line.ends_with(&short));
        line.unwrap().contains("\texpired ").then_some(())
    })
    .await;

    let refused = read(stack, "/v1/conversions", None, false).await;
    refused.is_error(401, "unauthorized");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    for target in targets(mine.id, &mine.clickid) {
        let without = read(stack, &target, None, false).await;
        assert_eq!(seen(&without), seen(&refused), "{target}");
    }
    for token in &worthless {
        for target in targets(mine.id, &mine.clickid) {
            for parameter in [false, true] {
                let answer = read(stack, &target, Some(token), parameter).await;
                assert_eq!(seen(&answer), seen(&refused), "{target}");
            }
        }
        let answer = stack.campaign(token, mine.id, Some("{}")).await;
        answer.is_error(401, "unauthorized");
    }

    let [admin, advertiser, campaigns] = &good;
    for target in targets(mine.id, &mine.clickid) {
        let whole = read(stack, &target, Some(admin), false).await;
        assert_eq!(whole.status, 200, "{target}: {whole:?}");
        assert!(
            whole.body.contains(&mine.clickid)
                || whole.body.contains("1.5")
                || target.contains("campaigns/"),
            "{target}: {whole:?}"
        );
        for token in [advertiser, campaigns] {
            for parameter in [false, true] {
                let own = read(stack, &target, Some(token), parameter).await;
                assert_eq!(seen(&own), seen(&whole), "{target}");
            }
        }
    }
    // What belongs to others, and what doesn't exist.
    let others = targets(theirs.id, &theirs.clickid);
    for (target, absent) in others.iter().zip(targets(nothing.0, &nothing.1)) {
        let absent = read(stack, &absent, Some(admin), false).await;
        for token in [advertiser, campaigns] {
            let hidden = read(stack, target, Some(token), false).await;
            assert_eq!(seen(&hidden), seen(&absent), "{target}");
        }
        let there = read(stack, target, Some(admin), false).await;
        assert_ne!(seen(&there), seen(&absent), "{target}");
    }
    // Of everything, their own.
    for token in [advertiser, campaigns] {
        for path in ["conversions", "postbacks"] {
            let all = read(stack, &format!("/v1/{path}"), Some(token), false).await;
            let rows = all.json()[path].as_array().unwrap().clone();
            assert_eq!(rows.len(), 1, "{all:?}");
            assert_eq!(rows[0]["clickid"], mine.clickid.as_str());
        }
        let all = read(stack, "/v1/stats?group_by=campaign", Some(token), false).await;
        let rows = all.json()["stats"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 1, "{all:?}");
        assert_eq!(rows[0]["campaign_id"], mine.id);
    }
    // Setting is for admins, whichever campaign it is.
    for id in [mine.id, theirs.id, nothing.0] {
        for token in [advertiser, campaigns] {
            let answer = stack.campaign(token, id, Some("{}")).await;
            answer.is_error(403, "forbidden");
        }
    }
    // Postbacks and their status need no token.
    let again = stack.postback(&format!("clickid={}", mine.clickid)).await;
    assert_eq!(
        stack.outcome(&again.request_id()).await["outcome"],
        "duplicate"
    );
}

async fn a_campaign_changes_hands(stack: &Stack) {
    let (one, other) = (owned(stack).await, owned(stack).await);
    let tokens = [&one, &other].map(|owner| token(stack, &["--advertiser", &owner.advertiser]));
    let target = format!("/v1/conversions?campaign_id={}", one.id);
    let count = async |token: &str| {
        let answer = read(stack, &target, Some(token), false).await;
        answer.json()["conversions"].as_array().unwrap().len()
    };
    assert_eq!((count(&tokens[0]).await, count(&tokens[1]).await), (1, 0));
    stack.import(&format!(
        r#"{{"campaign_id":{},"advertiser":"{}"}}"#,
        one.id, other.advertiser
    ));
    assert_eq!((count(&tokens[0]).await, count(&tokens[1]).await), (0, 1));
    // Who has no campaign sees nothing, rather than everything.
    let nobody = token(stack, &["--advertiser", &unique("nobody")]);
    assert_eq!(count(&nobody).await, 0);
    let all = read(stack, "/v1/stats", Some(&nobody), false).await;
    assert_eq!(all.json()["stats"][0]["clicks"], 0, "{all:?}");
}

async fn tokens_are_made_listed_and_revoked(stack: &Stack) {
    let name = unique("token");
    let made = token(
        stack,
        &[
            "--campaign",
            "7,8",
            "--name",
            &name,
            "--expires",
            "2099-01-01",
        ],
    );
    assert!(made.starts_with("pst_") && made.len() == 68, "{made}");
    let id = id_of(stack, &name);
    let line = |said: &str| {
        let line = said.lines().find(|line| line.starts_with(&id)).unwrap();
        line.split('\t').map(str::to_owned).collect::<Vec<_>>()
    };
    let listed = line(&stack.said(&["token", "list"]));
    assert_eq!(listed[1..3], ["campaigns=7,8", "until 2099-01-01 00:00:00"]);
    assert_eq!(listed[4], name);
    for _ in 0..2 {
        let revoked = line(&stack.said(&["token", "revoke", &id]));
        assert!(revoked[2].starts_with("revoked 20"), "{revoked:?}");
    }
    // The store keeps what names the token, not the token.
    let rows = Installation::from(stack).store.dump("access_tokens");
    assert!(rows.contains(&id) && !rows.contains(&made[4..]), "{rows}");
    for (arguments, word) in [
        (&["create"][..], "--admin"),
        (
            &["create", "--admin", "--campaign", "7"],
            "cannot be used with",
        ),
        (&["create", "--campaign", "x"], "--campaign"),
        (&["create", "--advertiser", ""], "--advertiser"),
        (
            &["create", "--admin", "--expires", "2001-01-01"],
            "has passed",
        ),
        (&["create", "--admin", "--expires", "soon"], "--expires"),
        (&["revoke", "0123456789ab"], "token list"),
    ] {
        let output = stack.command(&[&["token"], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(error.contains(word), "{arguments:?}: {error}");
    }
}

async fn wrong_tokens_are_limited_and_none_is_logged(stack: &mut Stack) {
    let good = token(stack, &["--admin"]);
    let wrong = format!("pst_{}", "cd".repeat(32));
    let reports = stack.reports_address();
    let from = async |address: &str, token: &str, parameter: bool| {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("x-forwarded-for", address)];
        let mut target = "/v1/stats".to_owned();
        if parameter {
            target.push_str(&format!("?token={token}"));
        } else {
            headers.push(("authorization", &bearer));
        }
        http::request(reports, "GET", &target, &headers, None).await
    };
    // Who sends no token guesses none.
    for _ in 0..10 {
        let headers = [("x-forwarded-for", "192.0.2.1")];
        let answer = http::request(reports, "GET", "/v1/stats", &headers, None).await;
        answer.is_error(401, "unauthorized");
    }
    assert_eq!(from("192.0.2.1", &good, true).await.status, 200);
    for number in 0..5 {
        let answer = from("192.0.2.1", &wrong, number % 2 == 0).await;
        answer.is_error(401, "unauthorized");
    }
    for token in [&wrong, &good] {
        let answer = from("192.0.2.1", token, false).await;
        answer.is_error(429, "too_many_attempts");
        assert_eq!(answer.header("retry-after"), Some("60"));
    }
    // What a caller writes before its own address changes nothing.
    let forged = from("192.0.2.9, 192.0.2.1", &good, false).await;
    forged.is_error(429, "too_many_attempts");
    // Postbacks and their status are still answered.
    let headers = [("x-forwarded-for", "192.0.2.1")];
    let sent = http::request(
        stack.ingress.http,
        "GET",
        "/v1/postback?clickid=none",
        &headers,
        None,
    )
    .await;
    sent.is_error(404, "click_not_found");
    let status = format!("/v1/postback/status?request_id={}", sent.request_id());
    let status = http::request(reports, "GET", &status, &headers, None).await;
    assert_eq!(status.status, 200, "{status:?}");
    // Another address, and another network of IPv6.
    assert_eq!(from("192.0.2.2", &good, false).await.status, 200);
    for number in 0..5 {
        let address = format!("2001:db8:1:2::{number}");
        from(&address, &wrong, false)
            .await
            .is_error(401, "unauthorized");
    }
    from("2001:db8:1:2::99", &good, false)
        .await
        .is_error(429, "too_many_attempts");
    assert_eq!(from("2001:db8:1:3::1", &good, false).await.status, 200);

    let process = stack.reports.as_ref().unwrap_or(&stack.ingress);
    let log = process.log();
    assert!(log.contains("\"TRACE\""), "traces are on");
    // Nor a secret that a command stores.
    let id = unique_campaign().to_string();
    let set = stack.command(&["campaign", "set", &id, "--new-secret"]);
    let said: serde_json::Value = serde_json::from_slice(&set.stdout).unwrap();
    let errors = String::from_utf8_lossy(&set.stderr);
    assert!(errors.contains("TRACE"), "{errors}");
    assert!(
        !errors.contains(said["secret"].as_str().unwrap()),
        "a secret is in the log"
    );
    for token in [&good, &wrong] {
        assert!(!log.contains(&token[4..]), "a token is in the log");
    }
}
