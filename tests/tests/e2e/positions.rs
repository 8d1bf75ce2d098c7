//! Positions come from the store alone, and one that can't be right stops its partition.

use crate::body::converted;
use postern_tests::checker::Installation;
use postern_tests::process::settings;
use postern_tests::{Kind, Stack, real, run, wait};

const STOPPED: &str = r#"postern_partition_stopped{partition="0"}"#;

/// Standalone rewinds its own, see `restart`.
#[test]
fn outside_the_log() {
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        let (stopped, other) = (stack.id_in_partition(0), stack.id_in_partition(1));
        stack.click(&stopped, 1).await;
        stack.click(&other, 1).await;
        let store = Installation::from(&*stack).store;
        let consumer = stack.consumer.as_mut().unwrap();
        assert!(consumer.stop().await.success());
        let settings = stack.settings.clone();
        for (wrong, right) in [
            ("postbacks + 1000", "postbacks - 1000"),
            ("clicks + 1000", "clicks - 1000"),
        ] {
            let column = wrong.split(' ').next().unwrap();
            let set = |value: &str| {
                let sql = format!("UPDATE partitions SET {column} = {value} WHERE partition = 0");
                store.execute(&sql);
            };
            set(wrong);
            let consumer = stack.consumer.as_mut().unwrap();
            consumer.start_again(&settings).await;
            wait::until("the partition stands still", async || {
                (stack.consumer_metric(STOPPED).await >= 1.0).then_some(())
            })
            .await;
            // The others go on, and what comes for this one is kept.
            let request = format!("clickid={other}");
            wait::until("the other partition is consumed", async || {
                (stack.postback(&request).await.status == 200).then_some(())
            })
            .await;
            let waiting = stack
                .postback(&format!("clickid={stopped}&revenue=2"))
                .await;
            assert_eq!(waiting.status, 202, "{waiting:?}");
            let consumer = stack.consumer.as_mut().unwrap();
            let (status, readiness) = consumer.readiness().await;
            assert_eq!(status, 503, "{readiness}");
            assert!(
                readiness.to_string().contains("outside the log"),
                "{readiness}"
            );
            assert!(consumer.stop().await.success());
            set(right);
        }
        let consumer = stack.consumer.as_mut().unwrap();
        consumer.start_again(&settings).await;
        consumer.ready().await;
        let again = stack
            .postback(&format!("clickid={stopped}&revenue=9"))
            .await;
        assert_eq!(again.json()["revenue"].to_string(), "2", "{again:?}");
        let last = stack.id_in_partition(0);
        stack.click(&last, 1).await;
        let answer = stack.postback(&format!("clickid={last}")).await;
        converted(&answer, &last, 1, "0", "USD");
    });
}
