//! Records that stand on the topic twice: a producer that lost its acknowledgement sends again. Nothing says which
//! they are; what is known is found by the log's key.

use crate::body::{self, duplicate};
use postern_tests::kcat::To;
use postern_tests::stack::unique;
use postern_tests::{Stack, on_both};

on_both!(shared: a_conversion_comes_again, one_that_waits_comes_again);

/// Puts the postback's record onto its topic once more.
async fn send_again(stack: &Stack, clickid: &str, request_id: &str) {
    let found = stack
        .records("postern.postbacks", |record| {
            record.value.contains(request_id)
        })
        .await;
    let value = found[0].value.as_bytes();
    stack.produce("postern.postbacks", To::Murmur2, clickid, value);
}

/// The clickid's log rows and its records among the rejects.
async fn traces(stack: &Stack, clickid: &str) -> (usize, usize) {
    let token = format!("Bearer {}", stack.admin_token());
    let headers = [("authorization", token.as_str())];
    let target = format!("/v1/postbacks?clickid={clickid}");
    let reports = stack.reports_address();
    let log = postern_tests::http::request(reports, "GET", &target, &headers, None).await;
    let rejects = postern_tests::kcat::read(stack.broker(), "postern.rejects");
    let rejected = rejects.iter().filter(|one| one.value.contains(clickid));
    (
        log.json()["postbacks"].as_array().unwrap().len(),
        rejected.count(),
    )
}

async fn a_conversion_comes_again(stack: &Stack) {
    let clickid = stack.new_click().await;
    let query = format!("clickid={clickid}&revenue=3");
    let first = stack.postback(&query).await;
    body::converted(&first, &clickid, 18, "3", "USD");
    for _ in 0..2 {
        send_again(stack, &clickid, &first.request_id()).await;
    }
    // Behind them in the same partition, and as before.
    let next = stack.postback(&query).await;
    next.is(200, &duplicate(&clickid, 18, "3", "USD"));
    let known = stack.outcome(&first.request_id()).await;
    assert_eq!(known["outcome"], "converted", "{known}");
    assert_eq!(traces(stack, &clickid).await, (2, 0));
}

async fn one_that_waits_comes_again(stack: &Stack) {
    let clickid = unique("twice");
    let early = stack
        .postback(&format!("clickid={clickid}&revenue=3"))
        .await;
    early.is(404, body::CLICK_NOT_FOUND);
    send_again(stack, &clickid, &early.request_id()).await;
    stack.click(&clickid, 18).await;
    let after = stack.becomes(&early.request_id(), "converted").await;
    assert_eq!(after["answer"]["revenue"].to_string(), "3");
    send_again(stack, &clickid, &early.request_id()).await;
    let next = stack
        .postback(&format!("clickid={clickid}&revenue=4"))
        .await;
    next.is(200, &duplicate(&clickid, 18, "3", "USD"));
    assert_eq!(traces(stack, &clickid).await, (2, 0));
}
