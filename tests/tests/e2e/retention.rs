//! What is old enough goes; conversions and what is counted stay.

use postern_tests::checker::{Installation, StoreAccess};
use postern_tests::stack::unique;
use postern_tests::{Stack, on_both, wait};

on_both!(alone &[("KAFKA__POSTBACKS_RETENTION", "1d"), ("RETENTION__LOG", "2d"), ("RETENTION__UNMATCHED", "1d"), ("RETENTION__CLICKS", "1h")]; old_rows_go);

/// Makes rows of one click old by so many days.
fn age(stack: &Stack, table: &str, column: &str, clickid: &str, days: i64) {
    let store = Installation::from(stack).store;
    let older = match store {
        StoreAccess::Postgres(_) => format!("{column} - interval '{days} days'"),
        StoreAccess::Sqlite(_) => format!("{column} - {days} * 86400000000"),
    };
    store.execute(&format!(
        "UPDATE {table} SET {column} = {older} WHERE clickid = '{clickid}'"
    ));
}

async fn old_rows_go(stack: &mut Stack) {
    let old = stack.new_click().await;
    let answer = stack.postback(&format!("clickid={old}&revenue=2")).await;
    stack.becomes(&answer.request_id(), "converted").await;
    let new = stack.new_click().await;
    let (waits, waits_long) = (unique("waits"), unique("waits"));
    let mut waiting = Vec::new();
    for clickid in [&waits, &waits_long] {
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue=1"))
            .await;
        stack.becomes(&answer.request_id(), "click_not_found").await;
        waiting.push(answer.request_id());
    }
    let settings = stack.settings.clone();
    let consuming = stack.consuming();
    assert!(consuming.stop().await.success());
    age(stack, "clicks", "clicked_at", &old, 1);
    age(stack, "postback_log", "received_at", &old, 3);
    age(stack, "unmatched", "received_at", &waits_long, 2);
    let consuming = stack.consuming();
    consuming.start_again(&settings).await;
    consuming.ready().await;

    for kind in ["clicks", "log", "unmatched"] {
        let series = format!("postern_expired_rows_total{{kind=\"{kind}\"}}");
        wait::until(&format!("{kind} go"), async || {
            (stack.consumer_metric(&series).await >= 1.0).then_some(())
        })
        .await;
    }
    let oldest = r#"postern_oldest_row_seconds{kind="clicks"}"#;
    assert!(stack.consumer_metric(oldest).await < 3600.0);
    // The click and the log have forgotten it, the conversion hasn't.
    stack
        .status(&answer.request_id())
        .await
        .is_error(404, "request_not_found");
    let again = stack.postback(&format!("clickid={old}&revenue=9")).await;
    assert_eq!(again.json()["note"], "duplicate", "{again:?}");
    assert_eq!(again.json()["revenue"].to_string(), "2");
    let answer = stack.postback(&format!("clickid={new}&revenue=1")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // The one still waits, the other doesn't.
    for clickid in [&waits, &waits_long] {
        stack.click(clickid, 18).await;
    }
    stack.becomes(&waiting[0], "converted").await;
    let status = stack.status(&waiting[1]).await.json();
    assert_eq!(status["outcome"], "click_not_found", "{status}");
    // As many are counted as there are.
    let store = Installation::from(&*stack).store.read().unwrap();
    let counted: i64 = store.partitions.iter().map(|row| row.unmatched).sum();
    assert_eq!(counted, i64::try_from(store.unmatched.len()).unwrap());
}
