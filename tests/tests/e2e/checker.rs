//! The checker on a real installation: a load is clean, and what is planted into the store is
//! found.

use postern_tests::checker::{self, AnswerKind, Evidence, Fault, Installation, Options, Report};
use postern_tests::history::{History, Sent};
use postern_tests::http::{Connection, request};
use postern_tests::stack::{TOKEN, unique};
use postern_tests::{Stack, on_both, real};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::task::JoinSet;

on_both!(alone &[]; a_load_is_clean_and_faults_are_found);

const CALLERS: usize = 8;
/// Clicks per caller.
const CLICKS: usize = 26;

async fn a_load_is_clean_and_faults_are_found(stack: &mut Stack) {
    if real::missing(false).is_some() {
        return;
    }
    stack.spoil();
    let history = load(stack.ingress.http).await;
    let counts = history.counts();
    let expected = CALLERS * CLICKS * 2 + CALLERS * 4;
    assert_eq!(counts.total(), expected, "{counts}");
    // A slow machine may leave some with queued.
    for (kind, some) in [
        (AnswerKind::Standard, CALLERS),
        (AnswerKind::Duplicate, CALLERS),
        (AnswerKind::ClickNotFound, 1),
        (AnswerKind::Refused, CALLERS),
    ] {
        assert!(counts.of(kind) >= some, "{counts}");
    }
    let store = Installation::from(&*stack).store;
    let report = check(stack, &history).await;
    report.assert_clean();
    assert!(report.looked.statuses > 100, "{report}");
    assert!(report.looked.events >= CALLERS * CLICKS, "{report}");
    assert_eq!(report.looked.misplaced, 0, "{report}");

    let one = first_conversion(&history);
    let stored = format!("WHERE conversion_id = '{one}'");
    // A double: a conversion counted twice. A lie: another revenue than was sent and told. A
    // loss: the conversion is gone. The first two are taken back.
    for (plant, undo, faults) in [
        (
            "UPDATE conversion_stats SET conversions = conversions + 1".to_owned(),
            "UPDATE conversion_stats SET conversions = conversions - 1".to_owned(),
            &[Fault::ConversionStatistics][..],
        ),
        (
            format!("UPDATE conversions SET revenue_micros = revenue_micros + 1 {stored}"),
            format!("UPDATE conversions SET revenue_micros = revenue_micros - 1 {stored}"),
            &[
                Fault::WrongRevenue,
                Fault::UntrueStandard,
                Fault::UntrueDuplicate,
                Fault::ConversionStatistics,
                Fault::EventDiffers,
            ],
        ),
        (
            format!("DELETE FROM conversions {stored}"),
            String::new(),
            &[
                Fault::ConversionMissing,
                Fault::UntrueStandard,
                Fault::UntrueDuplicate,
                Fault::Sequence,
                Fault::ConversionStatistics,
                Fault::EventDiffers,
            ],
        ),
    ] {
        store.execute(&plant);
        let report = check(stack, &history).await;
        for fault in faults {
            assert!(report.has(*fault), "{plant}: no {fault:?} in\n{report}");
        }
        if !undo.is_empty() {
            store.execute(&undo);
            check(stack, &history).await.assert_clean();
        }
    }
}

async fn check(stack: &Stack, history: &History) -> Report {
    let options = Options::default();
    let evidence = Evidence::collect(&Installation::from(stack), history, &options).await;
    checker::check(history, &evidence)
}

/// The request id of a standard answer whose repetition was answered as a duplicate.
fn first_conversion(history: &History) -> String {
    let recorded = history.recorded();
    let calls = || recorded.postbacks.iter();
    let repeated: BTreeSet<&str> = calls()
        .filter(|call| call.kind() == AnswerKind::Duplicate)
        .map(|call| call.sent.clickid.as_str())
        .collect();
    calls()
        .filter(|call| call.kind() == AnswerKind::Standard)
        .find(|call| repeated.contains(call.sent.clickid.as_str()))
        .and_then(|call| call.request_id())
        .unwrap()
        .to_owned()
}

/// Some callers at the same time: clicks with a postback and a repetition of it, unknown clicks,
/// clicks that come after their postbacks, refusals.
async fn load(ingress: SocketAddr) -> History {
    let history = History::new();
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let caller = Caller {
            connection: Connection::open(ingress).await.unwrap(),
            ingress,
            history: history.clone(),
        };
        callers.spawn(caller.run(number));
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    history
}

struct Caller {
    connection: Connection,
    ingress: SocketAddr,
    history: History,
}

impl Caller {
    async fn run(mut self, number: usize) {
        let clickids: Vec<String> = (0..CLICKS).map(|_| unique("checked")).collect();
        self.announce(&clickids).await;
        for (place, clickid) in clickids.iter().enumerate() {
            let revenue = format!("{place}.00000{number}");
            self.postback(clickid, &revenue, ["", "eur"][place % 2])
                .await;
            self.postback(clickid, "777.5", "GBP").await;
        }
        self.postback(&unique("unknown"), "1", "").await;
        self.postback(clickids[0].as_str(), "1,5", "").await;
        let late = unique("late");
        for revenue in ["3.25", "4.5"] {
            self.postback(&late, revenue, "CHF").await;
        }
        self.announce(&[late]).await;
    }

    async fn announce(&self, clickids: &[String]) {
        let lines: String = clickids
            .iter()
            .map(|id| format!("{{\"clickid\":\"{id}\",\"campaign_id\":18,\"site_id\":7}}\n"))
            .collect();
        let token = format!("Bearer {TOKEN}");
        let headers = [("authorization", token.as_str())];
        let began = Instant::now();
        let body = Some(lines.as_bytes());
        let answer = request(self.ingress, "POST", "/v1/clicks", &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.history.clicks(clickids, 18, None, began, true);
    }

    async fn postback(&mut self, clickid: &str, revenue: &str, currency: &str) {
        let sent = Sent {
            clickid: clickid.to_owned(),
            revenue: revenue.to_owned(),
            currency: currency.to_owned(),
            ..Sent::default()
        };
        let began = Instant::now();
        let target = sent.target();
        let result = self.connection.request("GET", &target, &[], None).await;
        self.history.reply(sent, began, &result);
        assert!(result.is_ok(), "{result:?}");
    }
}
