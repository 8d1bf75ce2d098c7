//! `POST /v1/clicks`.

use crate::body::converted;
use postern_tests::kcat::Record;
use postern_tests::stack::{TOKEN, unique};
use postern_tests::{Stack, http, on_both, real};

on_both!(shared: the_token, lines, the_first_click_wins, one_object_over_several_lines);

async fn the_token(stack: &Stack) {
    let click = format!(r#"{{"clickid":"{}","campaign_id":1}}"#, unique("token"));
    let post = async |authorization: Option<String>| {
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        let body = Some(click.as_bytes());
        http::request(stack.ingress.http, "POST", "/v1/clicks", &headers, body).await
    };
    for wrong in [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer wrong".to_owned()),
        Some(format!("Basic {TOKEN}")),
        Some(format!("Bearer {TOKEN}x")),
    ] {
        let answer = post(wrong.clone()).await;
        let message = answer.is_error(401, "unauthorized");
        assert!(!message.contains(TOKEN), "{wrong:?}");
    }
    assert_eq!(post(Some(format!("bearer {TOKEN}"))).await.status, 200);
}

async fn lines(stack: &Stack) {
    let (first, second) = (unique("line"), unique("line"));
    let body = format!(
        "{{\"clickid\":\"{first}\",\"campaign_id\":18,\"site_id\":5}}\n\
         {{\"clickid\":\"x\",\"campaign_id\":0}}\n\
         \n\
         {{\"clickid\":\"{second}\",\"campaign_id\":\"19\",\"publisher_id\":\"p\"}}\r\n\
         nonsense\n"
    );
    let answer = stack.post_clicks(&body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!(
        (&json["accepted"], &json["refused"]),
        (&2.into(), &2.into())
    );
    let refused: Vec<_> = json["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            (
                line["line"].as_u64().unwrap(),
                line["error"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(refused, [(2, "invalid_click"), (5, "invalid_click")]);
    assert!(
        json["refusals"][0]["message"]
            .as_str()
            .unwrap()
            .contains("campaign_id")
    );
    for (clickid, campaign) in [(first, 18), (second, 19)] {
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        converted(&answer, &clickid, campaign, "0", "USD");
    }
    let answer = stack.post_clicks("nonsense").await;
    answer.is_error(400, "invalid_click");
    let answer = stack.post_clicks("").await;
    answer.is_error(400, "invalid_click");
}

async fn one_object_over_several_lines(stack: &Stack) {
    let clickid = unique("pretty");
    let body = format!("{{\n  \"clickid\": \"{clickid}\",\n  \"campaign_id\": 3\n}}\n");
    assert_eq!(stack.post_clicks(&body).await.json()["accepted"], 1);
    let answer = stack.postback(&format!("clickid={clickid}")).await;
    converted(&answer, &clickid, 3, "0", "USD");
}

async fn the_first_click_wins(stack: &Stack) {
    if real::missing(false).is_some() {
        return;
    }
    let clickid = unique("twice");
    let click = |campaign: i64| {
        // Without a time: each gets its own.
        format!(r#"{{"clickid":"{clickid}","campaign_id":{campaign}}}"#)
    };
    for campaign in [1, 1, 2] {
        assert_eq!(stack.post_clicks(&click(campaign)).await.status, 200);
    }
    let answer = stack.postback(&format!("clickid={clickid}")).await;
    converted(&answer, &clickid, 1, "0", "USD");
    // The one that differs is in the rejects; its twin isn't.
    let of_click = |record: &Record| record.value.contains(&clickid);
    let rejected = stack.records("postern.rejects", of_click).await;
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    let json = rejected[0].json();
    assert_eq!(json["reason"], "click_conflict");
    assert_eq!(json["record"]["key"], clickid);
    let value = json["record"]["value"].as_str().unwrap();
    assert!(value.contains(r#""campaign_id":2"#), "{value}");
}
