//! What is promised, held while callers race, processes die and partitions move: each scenario
//! records a history that the checker holds against what is there afterwards.
//!
//! `POSTERN_RELIABILITY=full` runs the scenarios at their full size (`make reliability`); else
//! they are short. One at a time, since each takes the whole machine.
#![allow(
    clippy::unwrap_used,
    reason = "tests: a failed unwrap is a failed test"
)]

mod click_first;
mod export;
mod fault;
mod faults;
mod frozen;
mod outside;
mod redirect;
mod rescale;
mod same_click;
mod table;

use postern_tests::checker::{self, Evidence, Installation, Options, Report};
use postern_tests::fleet::Fleet;
use postern_tests::history::History;
use postern_tests::process::Settings;
use postern_tests::{Kind, real, traffic};
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whether the scenarios run at their full size.
fn full() -> bool {
    std::env::var("POSTERN_RELIABILITY").as_deref() == Ok("full")
}

/// Runs a scenario on a fleet of its own, when no other one runs.
fn on_fleet(kind: Kind, settings: &Settings, scenario: impl AsyncFnOnce(&mut Fleet)) {
    if real::missing(kind == Kind::Real).is_some() {
        return;
    }
    let _turn = turn();
    postern_tests::run::plain(async || {
        let mut fleet = Fleet::start(kind, settings).await;
        scenario(&mut fleet).await;
    });
}

/// Waits until no other scenario runs.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes tests `embedded` and `kafka_postgres` of each scenario, in a module of its name.
macro_rules! on_fleets {
    ($settings:expr; $($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            #[test]
            fn embedded() {
                let settings = postern_tests::process::settings($settings);
                crate::on_fleet(postern_tests::Kind::Embedded, &settings, super::$scenario);
            }

            #[test]
            fn kafka_postgres() {
                let settings = postern_tests::process::settings($settings);
                crate::on_fleet(postern_tests::Kind::Real, &settings, super::$scenario);
            }
        }
    )+};
}
pub(crate) use on_fleets;

/// Sets the campaigns that the traffic is of; another turn changes their policies.
fn set_campaigns(fleet: &Fleet, turn: usize) {
    fleet.stack.import(&traffic::campaigns(turn));
}

/// Waits until everything is at rest, checks the history, and says what was seen.
async fn check(fleet: &Fleet, name: &str, history: &History) {
    judge(fleet, name, history, false).await.assert_clean();
}

/// The same without an end of the test; `refilled` where the store may have been filled again.
async fn judge(fleet: &Fleet, name: &str, history: &History, refilled: bool) -> Report {
    let options = Options {
        patience: Duration::from_secs(120),
        sample: 500,
    };
    let installation = Installation::from(&fleet.stack);
    let mut evidence = Evidence::collect(&installation, history, &options).await;
    evidence.refilled = refilled;
    let report = checker::check(history, &evidence);
    say(&format!(
        "{name}, {:?}: {}\n    {report}",
        fleet.stack.kind,
        history.summary()
    ));
    report
}

/// Past the capture of test output: these lines are what the run is for.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "reliability: {line}");
}
