//! Lists: every filter, ranges in time zones, pages of many sizes, all formats.

use super::{CONVERSIONS, Loaded, Reader, same};
use postern_tests::generated::answers::{self, Line, flat};
use postern_tests::generated::question::Question;
use postern_tests::generated::texts::{CAMPAIGNS, EVENTS, ODD};
use postern_tests::generated::zone::{Zone, instant};
use postern_tests::generated::{CROWDED, Conversion};

/// Most pages that one walk takes.
const PAGES: usize = 8;

pub async fn lists_are_whole_and_in_order(loaded: &Loaded) {
    whole(loaded).await;
    let ranges = ranges(loaded).into_iter();
    let asked = filters(loaded).into_iter().chain(ranges);
    let mut empty = Vec::new();
    for ((reader, asked), format) in asked.zip(["csv", "ndjson"].into_iter().cycle()) {
        if list(loaded, reader, &asked, format).await == 0 {
            empty.push(asked.target("", &[]));
        }
    }
    // Another's campaign, and a clickid that nobody has. All others have an answer.
    assert_eq!(empty.len(), 2, "{empty:?}");
    streams_end_at_their_limit(loaded).await;
    odd_texts(loaded).await;
    histories(loaded).await;
    pages_of_another_list_are_refused(loaded).await;
}

/// All of it in pages of any size would take minutes: it is done in the largest.
async fn whole(loaded: &Loaded) {
    let all = &loaded.all;
    let wanted = loaded.list(&all.ask());
    assert_eq!(wanted.len(), loaded.set.conversions.len());
    let got = pages(loaded, all, &all.ask(), Some(1_000)).await;
    same("everything", &got, &wanted);
}

/// Each filter once at least, also for those that have none of it, and several together.
fn filters(loaded: &Loaded) -> Vec<(&Reader, Question)> {
    let (one, two, all, admin) = (&loaded.one, &loaded.two, &loaded.all, &loaded.admin);
    let some = |is: &dyn Fn(&&Conversion) -> bool| loaded.set.conversions.iter().find(is).unwrap();
    let strange = some(&|one| one.click.clickid.starts_with('a'));
    let again = {
        let after = &loaded.set.conversions[1..];
        let first = |clickid: &str| some(&|one| one.click.clickid == clickid);
        let twice = after
            .iter()
            .find(|one| first(&one.click.clickid).id != one.id);
        twice.unwrap()
    };
    vec![
        (one, one.ask()),
        (one, one.ask().by_click()),
        (two, two.ask().text("source", "push").by_click()),
        (two, two.ask().campaign(CAMPAIGNS[5]).status(3)),
        (two, two.ask().campaign(CAMPAIGNS[5]).by_click()),
        // It exists, but not for this token.
        (two, two.ask().campaign(CAMPAIGNS[1])),
        (all, all.ask().text("clickid", &strange.click.clickid)),
        (all, all.ask().text("clickid", &again.click.clickid)),
        (all, all.ask().text("clickid", "generated")),
        (all, all.ask().text("site_id", "Größe, 7")),
        (one, one.ask().text("site_id", "")),
        (all, all.ask().text("source", "").text("event", "sale")),
        (all, all.ask().text("external_id", "order-77")),
        (one, one.ask().text("external_id", "")),
        (all, all.ask().text("external_id", "=1+1")),
        (one, one.ask().text("event", "")),
        (two, two.ask().text("event", EVENTS[7])),
        (one, one.ask().currency("eur", "EUR")),
        (one, one.ask().currency(" usdollar ", "USD").status(3)),
        (one, one.ask().currency("=1a", "=1A").by_click()),
        (one, one.ask().status(0)),
        (two, two.ask().status(1).text("event", "lead")),
        (all, all.ask().status(2).text("source", "made-up")),
        (
            all,
            all.ask().text("subid0", "s7").text("site_id", "site-9"),
        ),
        (all, all.ask().text("subid2", "77")),
        (one, one.ask().text("subid2", "")),
        (one, one.ask().text("subid3", "")),
        (one, one.ask().text("subid4", "''''''")),
        (
            admin,
            admin
                .ask()
                .text("source", "made-up")
                .text("subid0", "s1")
                .by_click(),
        ),
        (admin, admin.ask().campaign(CAMPAIGNS[6]).status(1)),
    ]
}

/// Dates and times, each with the instants that it means.
fn ranges(loaded: &Loaded) -> Vec<(&Reader, Question)> {
    // What is written, and what it is in UTC.
    let dates = [
        (
            "UTC",
            ["2026-10-25", "2026-10-25"],
            ["2026-10-25T00:00:00Z", "2026-10-26T00:00:00Z"],
        ),
        // This day has 25 hours.
        (
            "Europe/Berlin",
            ["2026-10-25", "2026-10-25"],
            ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"],
        ),
        (
            "Europe/Berlin",
            ["2026-10-24", "2026-10-24"],
            ["2026-10-23T22:00:00Z", "2026-10-24T22:00:00Z"],
        ),
        (
            "Europe/Berlin",
            ["2026-10-25 03:00:00", "2026-10-26"],
            ["2026-10-25T02:00:00Z", "2026-10-26T23:00:00Z"],
        ),
        // The hour that comes twice, the first time; and half of the second.
        (
            "Europe/Berlin",
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"],
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"],
        ),
        (
            "Europe/Berlin",
            ["2026-10-25T01:00:00Z", "2026-10-25T02:30:00+01:00"],
            ["2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"],
        ),
        (
            "Asia/Kathmandu",
            ["2026-10-24", "2026-10-25"],
            ["2026-10-23T18:15:00Z", "2026-10-25T18:15:00Z"],
        ),
        (
            "Asia/Kathmandu",
            ["2026-10-25 06:45:00", "2026-10-25 07:00:00"],
            ["2026-10-25T01:00:00Z", "2026-10-25T01:15:00Z"],
        ),
        // Here the clocks go back at midnight, four days later.
        (
            "Africa/Cairo",
            ["2026-10-29", "2026-10-29"],
            ["2026-10-28T21:00:00Z", "2026-10-29T22:00:00Z"],
        ),
        (
            "Africa/Cairo",
            ["2026-10-30", "2026-10-31"],
            ["2026-10-29T22:00:00Z", "2026-10-31T22:00:00Z"],
        ),
        (
            "UTC",
            ["2026-10-25 00:59:59.999999", "2026-10-25T01:15:00Z"],
            ["2026-10-25T00:59:59.999999Z", "2026-10-25T01:15:00Z"],
        ),
    ];
    let one = &loaded.one;
    let mut questions = Vec::new();
    for (number, (zone, [from, to], instants)) in dates.into_iter().enumerate() {
        let [first, end] = instants.map(instant);
        let asked = one.ask().zone(zone).from(from, first).to(to, end);
        questions.push(match number % 2 {
            0 => asked.clone().by_click(),
            _ => asked.clone().status(0),
        });
        questions.push(asked);
    }
    let late = instant("2026-11-08T23:00:00Z");
    let berlin = one.ask().zone("Europe/Berlin");
    questions.push(berlin.clone().from("2026-11-09", late).by_click());
    let early = instant("2026-10-02T22:00:00Z");
    questions.push(berlin.to("2026-10-02", early).text("source", ""));
    // A microsecond that has more conversions than a page.
    let asked = loaded.two.ask().campaign(CAMPAIGNS[0]);
    let crowded = asked.from("2026-10-25T00:59:59.999999Z", CROWDED);
    let crowded = crowded.to("2026-10-25T01:00:00Z", CROWDED + 1);
    assert!(loaded.list(&crowded).len() > 500);
    let questions = questions.into_iter().map(|asked| (one, asked));
    questions.chain([(&loaded.two, crowded)]).collect()
}

/// One question in pages of several sizes and as a stream; how long it is.
async fn list(loaded: &Loaded, reader: &Reader, asked: &Question, format: &str) -> usize {
    let wanted = loaded.list(asked);
    let what = asked.target("", &[]);
    let length = wanted.len();
    let sizes = [1, 7, 150, 1_000, length, length.saturating_sub(1)];
    let fits = |size: &usize| (1..=1_000).contains(size) && length <= size * PAGES;
    let sizes = sizes.into_iter().filter(fits).map(Some);
    for size in sizes.chain((length < 100 * PAGES).then_some(None)) {
        let got = pages(loaded, reader, asked, size).await;
        same(&format!("{what} in pages of {size:?}"), &got, &wanted);
    }
    stream(loaded, reader, asked, format, &wanted).await;
    length
}

/// From page to page until there is no cursor.
async fn pages(
    loaded: &Loaded,
    reader: &Reader,
    asked: &Question,
    limit: Option<usize>,
) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let mut more = Vec::new();
        more.extend(limit.map(|limit| ("limit", limit.to_string())));
        more.extend(cursor.map(|cursor| ("cursor", cursor)));
        let body = loaded.body(reader, &asked.target(CONVERSIONS, &more)).await;
        let (page, next) = answers::page(&body);
        let limit = limit.unwrap_or(100);
        assert!(page.len() <= limit, "{} rows of {limit}", page.len());
        assert!(next.is_none() || page.len() == limit, "a short page");
        lines.extend(page);
        match next {
            Some(next) => cursor = Some(next),
            None => return lines,
        }
    }
}

/// The whole range at once.
async fn stream(loaded: &Loaded, reader: &Reader, asked: &Question, format: &str, wanted: &[Line]) {
    let what = asked.target(format, &[]);
    let body = loaded.format(reader, asked, CONVERSIONS, format).await;
    match format {
        "ndjson" => same(&what, &answers::ndjson(&body), wanted),
        _ => {
            let flat: Vec<Line> = wanted.iter().cloned().map(flat).collect();
            same(&what, &answers::csv_list(&body), &flat);
        }
    }
}

/// A stream that was given a limit is the beginning of the whole.
async fn streams_end_at_their_limit(loaded: &Loaded) {
    let one = &loaded.one;
    let wanted = loaded.list(&one.ask());
    for limit in [1, 999, 1_000] {
        let more = [
            ("format", "ndjson".to_owned()),
            ("limit", limit.to_string()),
        ];
        let body = loaded
            .body(one, &one.ask().target(CONVERSIONS, &more))
            .await;
        same(
            "ndjson with a limit",
            &answers::ndjson(&body),
            &wanted[..limit],
        );
    }
}

/// Every text of the set is found by itself and by nothing else.
async fn odd_texts(loaded: &Loaded) {
    let one = &loaded.one;
    for text in ODD {
        let asked = one.ask().text("subid1", text).status(0);
        let wanted = loaded.list(&asked);
        assert!(wanted.len() > 50, "{text:?}");
        let csv = loaded.format(one, &asked, CONVERSIONS, "csv").await;
        let flat: Vec<Line> = wanted.into_iter().map(flat).collect();
        same(&format!("subid1 {text:?}"), &answers::csv_list(&csv), &flat);
    }
}

/// What was said of each status, in the order of time.
async fn histories(loaded: &Loaded) {
    let one = &loaded.one;
    let asked = one.ask().status(3).zone("Asia/Kathmandu");
    let format = ("format", "ndjson".to_owned());
    let target = asked.target(CONVERSIONS, &[format, ("history", "1".to_owned())]);
    let body = loaded.body(one, &target).await;
    let got: Vec<String> = body
        .lines()
        .map(|line| answers::object(line)["history"].get().to_owned())
        .collect();
    let wanted: Vec<String> = asked
        .list(&loaded.set.conversions)
        .into_iter()
        .map(|one| history(one, &asked.zone))
        .collect();
    assert!(
        wanted
            .iter()
            .any(|history| history.matches("status").count() == 4)
    );
    same("history", &got, &wanted);
}

fn history(one: &Conversion, zone: &Zone) -> String {
    let own = (one.created_at, &one.id, one.first);
    let said = one.said.iter().map(|said| (said.at, &said.id, said.status));
    let mut all: Vec<_> = said.chain([own]).collect();
    all.sort();
    let entries: Vec<String> = all
        .into_iter()
        .map(|(at, id, status)| {
            let (status, at) = (postern_tests::generated::STATUSES[status], zone.show(at));
            format!(r#"{{"status":"{status}","at":"{at}","request_id":"{id}"}}"#)
        })
        .collect();
    format!("[{}]", entries.join(","))
}

async fn pages_of_another_list_are_refused(loaded: &Loaded) {
    let one = &loaded.one;
    let body = loaded.body(one, &one.ask().target(CONVERSIONS, &[])).await;
    let (_, cursor) = answers::page(&body);
    let cursor = cursor.unwrap();
    for (asked, cursor) in [
        (one.ask().by_click(), cursor.as_str()),
        (one.ask(), "1"),
        (one.ask(), ""),
        (one.ask(), &cursor[1..]),
    ] {
        let target = asked.target(CONVERSIONS, &[("cursor", cursor.to_owned())]);
        let answer = loaded.get(one, &target).await;
        let message = answer.is_error(400, "invalid_parameters");
        assert!(message.contains("cursor"), "{message}");
    }
}
