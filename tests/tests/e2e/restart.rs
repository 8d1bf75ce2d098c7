//! A process ends, in order or not, and another goes on where it was.

use crate::body::duplicate;
use postern_tests::load::Load;
use postern_tests::process::settings;
use postern_tests::stack::unique;
use postern_tests::{Kind, Postern, Stack, on_both, run, wait};
use std::time::Duration;

on_both!(alone &[]; an_orderly_restart, killed_under_load);

async fn an_orderly_restart(stack: &mut Stack) {
    let clickid = stack.new_click().await;
    let first = stack
        .postback(&format!("clickid={clickid}&revenue=1.5"))
        .await;
    assert_eq!(first.status, 200);
    let waiting = unique("late");
    let early = stack.postback(&format!("clickid={waiting}")).await;
    assert_eq!(early.status, 404);
    // A click that may not have been read when the process ends.
    let unread = stack.new_click().await;
    assert!(stack.ingress.stop().await.success());
    stack.start_ingress_again().await;

    let again = stack
        .postback(&format!("clickid={clickid}&revenue=9"))
        .await;
    again.is(200, &duplicate(&clickid, 18, "1.5", "USD"));
    let answer = stack.postback(&format!("clickid={unread}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    stack.click(&waiting, 3).await;
    stack.becomes(&early.request_id(), "converted").await;
    let status = stack.outcome(&first.request_id()).await;
    assert_eq!(status["answer"], first.json());
}

/// SIGKILL of what consumes, twice: whatever was acknowledged is there, once.
async fn killed_under_load(stack: &mut Stack) {
    for _ in 0..2 {
        let clickids = crate::shutdown::clicks(stack, 400).await;
        let load = Load::start(stack.ingress.http, clickids, 200);
        wait::until("the load runs", async || {
            (load.answered() > 100).then_some(())
        })
        .await;
        match stack.kind {
            Kind::Embedded => stack.ingress.kill(),
            Kind::Real => {
                let consumer = stack.consumer.as_mut().unwrap();
                consumer.kill();
                *consumer = Postern::start("consumer", &stack.settings).await;
            }
        }
        if stack.kind == Kind::Embedded {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let told = load.finish().await;
        match stack.kind {
            Kind::Embedded => stack.start_ingress_again().await,
            Kind::Real => stack.consumer.as_mut().unwrap().ready().await,
        }
        crate::shutdown::kept(stack, &told).await;
        // Sent again, each is a duplicate: a promise was kept once.
        for told in told.iter().filter(|told| told.status < 300).take(20) {
            let answer = stack.postback(&format!("clickid={}", told.clickid)).await;
            answer.is(200, &duplicate(&told.clickid, 18, "1.5", "USD"));
        }
    }
}

/// The token that standalone makes is kept in its directory.
#[test]
fn the_token_is_kept() {
    run::plain(async || {
        let mut first = Postern::start("standalone", &settings(&[])).await;
        first.ready().await;
        let token = std::fs::read_to_string(first.dir.join("data/clicks.token")).unwrap();
        let line = format!("The clicks token is {}", token.trim());
        assert!(first.output().contains(&line), "{}", first.output());
        let commands = commands(&first.output());
        assert_eq!(commands.len(), 2, "{commands:?}");
        for (command, word) in commands.iter().zip(["\"accepted\":1", "\"revenue\":1.2,"]) {
            let output = std::process::Command::new("sh")
                .args(["-c", command])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(word), "{command}: {text}");
        }
        assert!(first.stop().await.success());
        let dir = first.dir.clone();
        let mut second = Postern::start_in(&dir, "standalone", &settings(&[])).await;
        second.ready().await;
        assert!(second.output().contains(&line), "{}", second.output());
        // A second process on the same directory is told so.
        let other = postern_tests::process::run(
            &["standalone"],
            &settings(&[
                ("DATA_DIR", &dir.join("data").display().to_string()),
                ("HTTP__LISTEN", "127.0.0.1:0"),
                ("ADMIN__LISTEN", "127.0.0.1:0"),
                ("BROKER__LISTEN", "127.0.0.1:0"),
            ]),
        );
        let error = String::from_utf8_lossy(&other.stderr).into_owned();
        assert_eq!(other.status.code(), Some(1), "{error}");
        assert!(error.contains("in use"), "{error}");
    });
}

/// The curl lines that standalone prints.
fn commands(output: &str) -> Vec<String> {
    output
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl "))
        .map(|line| line.replacen("curl ", "curl -s ", 1))
        .collect()
}

/// A power failure takes the end of the embedded log, while the store keeps what it had of it.
#[test]
fn the_log_ends_before_the_store() {
    run::alone(Kind::Embedded, &settings(&[]), async |stack: &mut Stack| {
        let before = stack.new_click().await;
        stack.postback(&format!("clickid={before}&revenue=1")).await;
        assert!(stack.ingress.stop().await.success());
        let log = stack.ingress.dir.join("data/broker");
        let kept = stack.ingress.dir.join("kept");
        copy(&log, &kept);
        stack.start_ingress_again().await;

        let lost = crate::shutdown::clicks(stack, 20).await;
        let mut told = Vec::new();
        for clickid in &lost {
            told.push(
                stack
                    .postback(&format!("clickid={clickid}&revenue=2.5"))
                    .await,
            );
        }
        assert!(stack.ingress.stop().await.success());
        std::fs::remove_dir_all(&log).unwrap();
        copy(&kept, &log);
        stack.start_ingress_again().await;
        assert!(
            stack
                .ingress
                .log()
                .contains("the embedded log ends before the position"),
        );

        // What was answered holds, and what comes now takes the offsets of what was lost.
        for (clickid, first) in lost.iter().zip(&told) {
            let status = stack.outcome(&first.request_id()).await;
            assert_eq!(status["answer"], first.json());
            let again = stack
                .postback(&format!("clickid={clickid}&revenue=9"))
                .await;
            again.is(200, &duplicate(clickid, 18, "2.5", "USD"));
        }
        let fresh = stack.new_click().await;
        let answer = stack.postback(&format!("clickid={fresh}&revenue=4")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // The events that the log lost are in it again.
        let ids: Vec<String> = told.iter().map(postern_tests::Answer::request_id).collect();
        wait::until("all events", async || {
            let events = stack.records("postern.conversions", |_| true).await;
            ids.iter()
                .all(|id| {
                    events
                        .iter()
                        .any(|event| event.json()["conversion_id"] == *id)
                })
                .then_some(())
        })
        .await;
    });
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([from, to])
        .status();
    assert!(copied.unwrap().success());
}
