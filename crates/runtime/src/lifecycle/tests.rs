#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(
    clippy::print_stdout,
    reason = "a child process tells its parent how far it is"
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// Marks the child process of the signal tests.
const CHILD: &str = "POSTERN_TEST_LIFECYCLE_CHILD";

fn log_order(lifecycle: &Lifecycle, stage: Stage, order: &Arc<Mutex<Vec<Stage>>>) {
    let order = Arc::clone(order);
    lifecycle.spawn(stage, &format!("{stage:?}"), move |token| async move {
        token.cancelled().await;
        // Give the other stages the chance to be wrong.
        tokio::task::yield_now().await;
        order.lock().unwrap().push(stage);
        Ok(())
    });
}

#[tokio::test]
async fn stages_stop_in_order() {
    let lifecycle = Lifecycle::new();
    let order = Arc::default();
    for stage in [Stage::Base, Stage::Edge, Stage::Workers, Stage::Edge] {
        log_order(&lifecycle, stage, &order);
    }
    lifecycle.stop("test over");
    let outcome = lifecycle.run_until_done(LONG).await.unwrap();
    assert!(outcome.is_clean());
    assert_eq!(outcome.cause.to_string(), "test over");
    let order = order.lock().unwrap();
    assert_eq!(
        *order,
        [Stage::Edge, Stage::Edge, Stage::Workers, Stage::Base]
    );
}

#[tokio::test]
async fn a_task_that_ends_stops_the_process_and_is_named() {
    for (end, said) in [
        ("ok", "reader ended by itself"),
        ("err", "reader failed: no luck"),
        ("panic", "reader panicked: oh"),
    ] {
        let lifecycle = Lifecycle::new();
        let order = Arc::default();
        log_order(&lifecycle, Stage::Edge, &order);
        lifecycle.spawn(Stage::Workers, "reader", move |_| async move {
            match end {
                "ok" => Ok(()),
                "err" => Err("no luck".into()),
                _ => panic!("oh"),
            }
        });
        let error = lifecycle.run_until_done(LONG).await.unwrap_err();
        assert_eq!(error.to_string(), said);
        assert!(error.outcome.is_clean());
        assert_eq!(order.lock().unwrap().len(), 1, "the others were drained");
    }
}

#[tokio::test]
async fn the_first_cause_is_kept_and_later_failures_are_listed() {
    let lifecycle = Lifecycle::new();
    lifecycle.spawn(Stage::Workers, "worker", |token| async move {
        token.cancelled().await;
        Err("could not commit".into())
    });
    lifecycle.stop("first");
    lifecycle.stop("second");
    let outcome = lifecycle.run_until_done(LONG).await.unwrap();
    assert_eq!(outcome.cause.to_string(), "first");
    assert_eq!(outcome.failures, ["worker failed: could not commit"]);
    assert!(!outcome.is_clean());
}

#[tokio::test]
async fn a_stuck_stage_is_left_behind_and_the_next_one_still_has_time() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let lifecycle = Lifecycle::new();
    let dropped = Arc::new(AtomicUsize::new(0));
    let guard = Dropped(Arc::clone(&dropped));
    lifecycle.spawn(Stage::Edge, "stuck", move |_| async move {
        let _guard = guard;
        std::future::pending::<()>().await;
        Ok(())
    });
    let order = Arc::default();
    log_order(&lifecycle, Stage::Workers, &order);
    lifecycle.stop("test over");
    let deadline = Duration::from_millis(200);
    let outcome = lifecycle.run_until_done(deadline).await.unwrap();
    assert_eq!(outcome.abandoned, ["stuck"]);
    assert!(outcome.drained >= deadline / 2, "{:?}", outcome.drained);
    assert_eq!(*order.lock().unwrap(), [Stage::Workers]);
    assert_eq!(dropped.load(Ordering::SeqCst), 1, "the task was aborted");
}

#[tokio::test]
async fn threads_are_waited_for_and_their_panics_reported() {
    let lifecycle = Lifecycle::new();
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    lifecycle
        .spawn_thread(Stage::Workers, "blocking", move |token| {
            let _ = receiver.recv();
            assert!(token.is_cancelled());
            Ok(())
        })
        .unwrap();
    let token = lifecycle.token(Stage::Workers);
    lifecycle.spawn(Stage::Edge, "edge", |token| async move {
        token.cancelled().await;
        Ok(())
    });
    tokio::spawn(async move {
        token.cancelled().await;
        sender.send(()).unwrap();
    });
    lifecycle.stop("test over");
    assert!(lifecycle.run_until_done(LONG).await.unwrap().is_clean());

    let lifecycle = Lifecycle::new();
    lifecycle
        .spawn_thread(Stage::Base, "blocking", |_| panic!("oh"))
        .unwrap();
    let error = lifecycle.run_until_done(LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "blocking panicked: oh");
}

#[tokio::test]
async fn a_registered_guard_that_vanishes_is_a_failure() {
    let lifecycle = Lifecycle::new();
    drop(lifecycle.register(Stage::Workers, "foreign"));
    let error = lifecycle.run_until_done(LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "foreign failed: ended without a result");
}

/// Not a test of its own: the process that the signal tests send signals to.
#[test]
fn child() {
    let Ok(kind) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let code = runtime.block_on(async {
        let lifecycle = Lifecycle::with_signals().unwrap();
        lifecycle.spawn(Stage::Edge, "edge", move |token| async move {
            println!("\nready");
            token.cancelled().await;
            println!("\nstopping");
            if kind == "stuck" {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        let outcome = lifecycle.run_until_done(LONG).await.unwrap();
        i32::from(!matches!(outcome.cause, Cause::Signal(Signal::Terminate)))
    });
    std::process::exit(code);
}

fn signalled(kind: &str, signals: &[&str]) -> Option<i32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::tests::child", "--nocapture"])
        .env(CHILD, kind)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = |said: &str| assert!(lines.any(|line| line.unwrap().trim() == said));
    wait_for("ready");
    for signal in signals {
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([*signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        if *signal == signals[0] {
            wait_for("stopping");
        }
    }
    child.wait().unwrap().code()
}

#[test]
fn the_first_signal_drains() {
    assert_eq!(signalled("quick", &["-TERM"]), Some(0));
}

#[test]
fn the_second_signal_ends_at_once() {
    assert_eq!(signalled("stuck", &["-TERM", "-INT"]), Some(130));
}
