//! While somebody reads, conversions arrive: newer ones as postbacks, older ones past Postern.

use super::statistics::totals_are_sums_of_exports;
use super::{CONVERSIONS, Loaded, PLAN, Reader, same};
use postern_tests::Stack;
use postern_tests::generated::answers::{self, Line, flat};
use postern_tests::generated::question::Question;
use postern_tests::generated::texts::CAMPAIGNS;
use postern_tests::generated::{Click, Plan, Set, load};
use postern_tests::http::Connection;
use serde_json::Value;
use std::cell::Cell;
use std::collections::HashSet;

/// Asks for statuses and events; all others for nothing.
const LEDGER: i64 = CAMPAIGNS[2];
const LIMIT: usize = 250;

pub async fn what_was_there_comes_once(loaded: &Loaded, stack: &Stack) {
    let line = format!(r#"{{"campaign_id":{LEDGER},"statuses":true,"dedupe":"event"}}"#);
    stack.import(&line);
    let arrivals = Arrivals {
        loaded,
        stack,
        unused: Cell::new(loaded.set.converted),
        sets: Cell::new(0),
    };
    let (one, two) = (&loaded.one, &loaded.two);
    for asked in [one.ask(), one.ask().by_click()] {
        in_pages(loaded, &arrivals, &asked).await;
    }
    let asked = two.ask().campaign(CAMPAIGNS[0]);
    let before = now(loaded, two, &asked).await;
    for format in ["ndjson", "csv"] {
        as_stream(loaded, &arrivals, &asked, format, &before).await;
    }
    arrivals.statuses().await;
    totals_are_sums_of_exports(loaded, &loaded.all, &loaded.all.ask()).await;
}

/// From page to page, with arrivals between them.
async fn in_pages(loaded: &Loaded, arrivals: &Arrivals<'_>, asked: &Question) {
    let before = now(loaded, &loaded.one, asked).await;
    let mut got = Vec::new();
    let mut more = vec![("limit", LIMIT.to_string())];
    for number in 0.. {
        let target = asked.target(CONVERSIONS, &more);
        let (page, next) = answers::page(&loaded.body(&loaded.one, &target).await);
        got.extend(page);
        let Some(next) = next else { break };
        more.truncate(1);
        more.push(("cursor", next));
        if number % (before.len() / LIMIT / 4) == 0 {
            arrivals.newer().await;
            arrivals.older();
        }
    }
    let what = asked.target("pages meanwhile", &[]);
    check(&what, &before, &got);
}

/// All at once, and nothing is read until there were arrivals: more than is under way is read from
/// the store only after them.
async fn as_stream(
    loaded: &Loaded,
    arrivals: &Arrivals<'_>,
    asked: &Question,
    format: &str,
    before: &[Line],
) {
    let target = asked.target(CONVERSIONS, &[("format", format.to_owned())]);
    let mut connection = Connection::open(loaded.reports).await.unwrap();
    let token = &loaded.two.token;
    let head = format!(
        "GET {target} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n",
        loaded.reports
    );
    connection.send(head.as_bytes()).await.unwrap();
    for _ in 0..3 {
        arrivals.newer().await;
        arrivals.older();
    }
    let answer = connection.answer().await.unwrap();
    assert_eq!(answer.status, 200, "{:.500}", answer.body);
    if format == "ndjson" {
        check("ndjson meanwhile", before, &answers::ndjson(&answer.body));
    } else {
        let before: Vec<Line> = before.iter().cloned().map(flat).collect();
        check("csv meanwhile", &before, &answers::csv_list(&answer.body));
    }
}

/// What comes meanwhile.
struct Arrivals<'a> {
    loaded: &'a Loaded,
    stack: &'a Stack,
    /// The next click that has not converted.
    unused: Cell<usize>,
    sets: Cell<u64>,
}

impl Arrivals<'_> {
    fn click(&self) -> &Click {
        let number = self.unused.replace(self.unused.get() + 1);
        &self.loaded.set.clicks[number]
    }

    /// Some newer conversions, as their advertisers send them.
    async fn newer(&self) {
        for _ in 0..5 {
            let clickid = encoded(&self.click().clickid);
            let query = format!("clickid={clickid}&revenue=0.000001&currency=eur&event=lead");
            self.taken(&query).await;
        }
    }

    /// The answer to a postback, also where the machine is too busy to give it at once.
    async fn taken(&self, query: &str) -> Value {
        let answer = self.stack.postback(query).await;
        if answer.status == 202 {
            return self.stack.outcome(&answer.request_id()).await["answer"].clone();
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Some that are older than the newest, as if they had been held up: among those that were
    /// read, and among those that are still to come.
    fn older(&self) {
        let number = self.sets.replace(self.sets.get() + 1);
        let set = Set::new(Plan {
            seed: 1_000 + number,
            conversions: 300,
            clicks: 10,
            days: (-30, 18),
            partition: PLAN.partition + 1 + i32::try_from(number).unwrap(),
        });
        load::load(&self.loaded.store, &set);
    }

    /// Statuses of conversions, made-up ones and new ones, change.
    async fn statuses(&self) {
        let set = &self.loaded.set;
        let made_up = set.conversions.iter().filter(|one| {
            let is_plain = |text: &str| {
                text.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            one.click.campaign == LEDGER
                && [&one.click.clickid, &one.event]
                    .into_iter()
                    .all(|text| is_plain(text))
                && one.external_id.as_deref().is_some_and(is_plain)
        });
        for (one, status) in made_up.zip(
            ["reversed", "approved", "rejected", "lead"]
                .into_iter()
                .cycle()
                .take(40),
        ) {
            let external_id = one.external_id.as_deref().unwrap_or_default();
            let query = format!(
                "clickid={}&event={}&txid={external_id}&status={status}",
                one.click.clickid, one.event
            );
            let answer = self.taken(&query).await;
            assert!(!answer["note"].is_null(), "not known: {answer:?}");
        }
        for status in ["lead", "sale", "refund", "trash"] {
            let click =
                std::iter::repeat_with(|| self.click()).find(|click| click.campaign == LEDGER);
            let clickid = encoded(&click.unwrap().clickid);
            for status in ["lead", status] {
                let query = format!("clickid={clickid}&revenue=12.345678&status={status}");
                self.taken(&query).await;
            }
        }
    }
}

fn encoded(clickid: &str) -> String {
    clickid.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// What stands there now.
async fn now(loaded: &Loaded, reader: &Reader, asked: &Question) -> Vec<Line> {
    let body = loaded.format(reader, asked, CONVERSIONS, "ndjson").await;
    answers::ndjson(&body)
}

/// Each row that was there came once, in its order, and no other twice.
fn check(what: &str, before: &[Line], got: &[Line]) {
    let ids: HashSet<_> = got.iter().map(|line| &line[0]).collect();
    assert_eq!(ids.len(), got.len(), "{what}: some came twice");
    let known: HashSet<_> = before.iter().map(|line| &line[0]).collect();
    let old: Vec<_> = got.iter().filter(|line| known.contains(&line[0])).collect();
    same(what, &old, &before.iter().collect::<Vec<_>>());
}
