//! `GET /v1/click`: a visitor's click.

use crate::body;
use postern_tests::process::settings;
use postern_tests::stack::unique_campaign;
use postern_tests::{Answer, Kind, Stack, http, on_both, real, run, wait};
use std::io::Write as _;
use std::net::TcpStream;

on_both!(shared:
    a_visitor_is_sent_on,
    where_there_is_no_macro_the_clickid_is_appended,
    nobody_is_sent_where_no_campaign_leads,
    whatever_a_visitor_sends_he_is_sent_on,
    a_postback_finds_its_click_at_once,
);

/// Sets a campaign and waits until the ingress redirects by it.
async fn campaign(stack: &Stack, settings: &str) -> i64 {
    let id = unique_campaign();
    change(stack, id, settings, 302).await;
    id
}

async fn change(stack: &Stack, id: i64, settings: &str, status: u16) {
    let token = stack.admin_token();
    let answer = stack.campaign(&token, id, Some(settings)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    wait::until("the ingress knows the campaign", async || {
        let answer = visit(stack, &format!("campaign={id}")).await;
        (answer.status == status).then_some(())
    })
    .await;
}

async fn visit(stack: &Stack, query: &str) -> Answer {
    stack.get(&format!("/v1/click?{query}")).await
}

/// Where the visitor is sent, and his click's id.
#[track_caller]
fn target(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 302, "{answer:?}");
    body::has_common_headers(answer);
    let clickid = answer.json()["clickid"].as_str().unwrap().to_owned();
    assert!(
        clickid.len() == 32 && clickid.bytes().all(|b| b.is_ascii_hexdigit()),
        "{clickid}"
    );
    assert_eq!(
        answer.body,
        format!(r#"{{"status":"ok","clickid":"{clickid}"}}"#)
    );
    (answer.header("location").unwrap().to_owned(), clickid)
}

async fn a_visitor_is_sent_on(stack: &Stack) {
    let url = "https://shop.example/{campaign_id}/?c={clickid}&s={site_id}&o={source}&x={subid0}{subid4}#{subid1}";
    let id = campaign(stack, &format!(r#"{{"tracking_url":"{url}"}}"#)).await;
    let query =
        format!("campaign={id}&site=7%2F8&source=pop+under&subid0=a%26b&subid1=%23&subid4=é");
    let (location, clickid) = target(&visit(stack, &query.replace('é', "%C3%A9")).await);
    let expected =
        format!("https://shop.example/{id}/?c={clickid}&s=7%2F8&o=pop%20under&x=a%26b%C3%A9#%23");
    assert_eq!(location, expected);
    // By its other names; and each click has its own id.
    let (_, other) = target(&visit(stack, &format!("campaign_id={id}&site_id=7")).await);
    assert_ne!(clickid, other);
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=2"))
        .await;
    body::converted(&answer, &clickid, id, "2", "USD");
    // The record is a click as every other.
    let records = stack
        .records("postern.clicks", |record| record.key == clickid)
        .await;
    let click = records[0].json();
    assert_eq!(
        (&click["site_id"], &click["source"]),
        (&"7/8".into(), &"pop under".into())
    );
    assert_eq!(click["campaign_id"], id);
}

async fn where_there_is_no_macro_the_clickid_is_appended(stack: &Stack) {
    for (url, expected) in [
        ("https://shop.example", "https://shop.example?clickid=ID"),
        (
            "https://shop.example/a?b=1#top",
            "https://shop.example/a?b=1&clickid=ID#top",
        ),
        (
            "http://shop.example:8443/?",
            "http://shop.example:8443/?clickid=ID",
        ),
    ] {
        let id = campaign(stack, &format!(r#"{{"tracking_url":"{url}"}}"#)).await;
        let (location, clickid) = target(&visit(stack, &format!("campaign={id}")).await);
        assert_eq!(location, expected.replace("ID", &clickid));
    }
}

async fn nobody_is_sent_where_no_campaign_leads(stack: &Stack) {
    let to = "https://elsewhere.example/";
    visit(stack, &format!("url={to}"))
        .await
        .is_error(400, "missing_campaign");
    for bad in ["x", "-1", "0", "1.5", "99999999999999999999"] {
        let message = visit(stack, &format!("campaign={bad}")).await;
        let message = message.is_error(400, "invalid_campaign");
        assert!(message.contains("campaign"), "{message}");
    }
    let unknown = unique_campaign();
    visit(stack, &format!("campaign={unknown}"))
        .await
        .is_error(404, "campaign_not_found");
    let url = r#""tracking_url":"https://shop.example/""#;
    let id = campaign(stack, &format!("{{{url}}}")).await;
    for word in ["paused", "closed"] {
        change(stack, id, &format!(r#"{{{url},"status":"{word}"}}"#), 410).await;
        wait::until(&format!("it is {word}"), async || {
            let answer = visit(stack, &format!("campaign={id}")).await;
            let message = answer.is_error(410, "campaign_not_active");
            message.contains(word).then_some(())
        })
        .await;
    }
    change(stack, id, "{}", 404).await;
    visit(stack, &format!("campaign={id}"))
        .await
        .is_error(404, "no_tracking_url");
    // A postback of an earlier click counts all the same: that is another test's.
    let target = format!("/v1/click?campaign={id}");
    let answer = http::request(stack.ingress.http, "POST", &target, &[], Some(b"")).await;
    answer.is_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET"));
}

async fn whatever_a_visitor_sends_he_is_sent_on(stack: &Stack) {
    let url = "https://shop.example/p/{source}/?s={site_id}&x={subid0}";
    let id = campaign(stack, &format!(r#"{{"tracking_url":"{url}"}}"#)).await;
    let long = "x".repeat(5_000);
    for hostile in [
        "site=%00%0d%0aLocation:+https://elsewhere.example/&source=..%2f..%2f",
        "site=%ff%fe&source=https://elsewhere.example/&subid0={clickid}",
        "site[]=1&source[a]=2&subid0[]=3",
        &format!("site={long}&source={long}&subid0={long}"),
        "source=@elsewhere.example%2f%5c&subid0=%23%3f%26url=x",
    ] {
        let (location, clickid) = target(&visit(stack, &format!("campaign={id}&{hostile}")).await);
        assert!(
            location.starts_with("https://shop.example/p/"),
            "{location}"
        );
        assert!(
            location.is_ascii() && !location.contains(['\r', '\n', ' ']),
            "{location}"
        );
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        body::converted(&answer, &clickid, id, "0", "USD");
    }
}

/// The click was acknowledged before the redirect left, so it is there for whoever is fast.
async fn a_postback_finds_its_click_at_once(stack: &Stack) {
    let settings = r#"{"tracking_url":"https://shop.example/?c={clickid}"}"#;
    let id = campaign(stack, settings).await;
    let mut visitor = http::Connection::open(stack.ingress.http).await.unwrap();
    let mut advertiser = http::Connection::open(stack.ingress.http).await.unwrap();
    for _ in 0..200 {
        let click = format!("/v1/click?campaign={id}");
        let answer = visitor.request("GET", &click, &[], None).await.unwrap();
        let (_, clickid) = target(&answer);
        let postback = format!("/v1/postback.php?clickid={clickid}&revenue=1");
        let answer = advertiser
            .request("GET", &postback, &[], None)
            .await
            .unwrap();
        body::converted(&answer, &clickid, id, "1", "USD");
    }
}

/// Without Kafka nobody is kept waiting, and what is lost is told.
#[test]
fn visitors_are_sent_on_without_kafka() {
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        let settings = r#"{"tracking_url":"https://shop.example/?c={clickid}"}"#;
        let id = campaign(stack, settings).await;
        let world = stack.world.clone().unwrap();
        world.kill_kafka();
        // One who hangs up while he is made to wait: his click is kept as the others are.
        let mut gone = TcpStream::connect(stack.ingress.http).unwrap();
        write!(
            gone,
            "GET /v1/click?campaign={id} HTTP/1.1\r\nhost: a\r\n\r\n"
        )
        .unwrap();
        drop(gone);
        let started = std::time::Instant::now();
        target(&visit(stack, &format!("campaign={id}")).await);
        // No redirect leaves without the acknowledgement, as long as that may come.
        let waited = started.elapsed();
        assert!(waited > std::time::Duration::from_millis(400), "{waited:?}");
        let mut queued = Vec::new();
        for _ in 0..40 {
            let (_, clickid) = target(&visit(stack, &format!("campaign={id}")).await);
            let answer = stack.postback(&format!("clickid={clickid}")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            queued.push(answer.request_id());
        }
        // The first ones wait for half a second, the others for the spool only.
        let took = started.elapsed();
        assert!(took < std::time::Duration::from_secs(15), "{took:?}");
        wait::until("each click is in the spool", async || {
            let series = r#"postern_spool_appended_total{topic="clicks"}"#;
            (stack.ingress.metric(series).await? >= 42.0).then_some(())
        })
        .await;
        let lost = r#"postern_click_redirects_total{result="lost"}"#;
        assert_eq!(stack.ingress.metric(lost).await.unwrap_or(0.0), 0.0);
        world.start_kafka();
        stack.consumer.as_mut().unwrap().ready().await;
        for request_id in &queued {
            stack.becomes(request_id, "converted").await;
        }
    });
}
