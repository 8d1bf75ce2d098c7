//! Consumers come and go under load: partitions move, and nothing else does.

use crate::{check, full, on_fleet};
use postern_tests::Kind;
use postern_tests::fleet::Fleet;
use postern_tests::history::History;
use postern_tests::process::settings;
use postern_tests::traffic::Traffic;
use std::time::Duration;

/// The embedded parts are one process: there is nothing to rescale.
#[test]
fn from_one_to_three_to_two() {
    on_fleet(Kind::Real, &settings(&[]), async |fleet: &mut Fleet| {
        fleet.remove_consumer().await;
        let history = History::new();
        let (callers, rate, pause) = if full() {
            (400, 1000, Duration::from_secs(15))
        } else {
            (48, 150, Duration::from_secs(4))
        };
        let traffic = Traffic::start(&fleet.ingresses(), &history, callers, rate);
        tokio::time::sleep(pause).await;
        fleet.add_consumer().await;
        fleet.add_consumer().await;
        tokio::time::sleep(pause).await;
        fleet.ready().await;
        fleet.remove_consumer().await;
        fleet.ready().await;
        tokio::time::sleep(pause).await;
        traffic.finish().await;

        check(fleet, "1 → 3 → 2 consumers", &history).await;
        let longest = history.longest_pause();
        assert!(longest.length < Duration::from_secs(10), "{longest:?}");
    });
}
