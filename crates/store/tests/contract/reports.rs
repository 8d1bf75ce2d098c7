//! What reports ask: each answer is held against the same question put to the list of everything.

use crate::engine::Database;
use crate::world::{Worker, at, clickid, postback};
use jiff::Timestamp;
use postern_core::campaign::{Campaign, Dedupe};
use postern_core::currency::Currency;
use postern_core::ids::RequestId;
use postern_core::record::click::Click;
use postern_core::record::postback::Postback;
use postern_core::status::{Said, Status};
use postern_store::reading::{
    Campaigns, ConversionFilter, Counted, DateOf, Dimension, GroupValue, LogFilter, Page, Range,
    ShownConversion, ShownPostback, StatisticsQuery,
};
use postern_store::{Store, StoreError, StoreOptions, open};
use std::collections::BTreeMap;
use std::time::Duration;

const CLICKS: i64 = 600;

/// A number that looks random, the same in each run.
fn mix(number: i64, salt: i64) -> usize {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (number, salt).hash(&mut hasher);
    usize::try_from(hasher.finish() % 10_007).unwrap()
}

fn pick<'a>(number: i64, salt: i64, from: &[&'a str]) -> &'a str {
    from[mix(number, salt) % from.len()]
}

/// Clicks of four campaigns, conversions of two thirds of them, half of these with a second one,
/// some of which changed their status.
async fn fill(database: &Database) -> Vec<Click> {
    let store = database.store.as_ref();
    for campaign_id in 1..=4 {
        let mut campaign = Campaign {
            campaign_id,
            version: 1,
            ..Campaign::default()
        };
        campaign.settings.dedupe = Dedupe::Event;
        campaign.settings.statuses = true;
        database.campaign(&campaign).await;
    }
    let mut workers = [Worker::new(store, 0).await, Worker::new(store, 1).await];
    let mut all = Vec::new();
    for part in 0..6 {
        let (mut clicks, mut postbacks) = (Vec::new(), Vec::new());
        for n in part * CLICKS / 6..(part + 1) * CLICKS / 6 {
            let id = format!("click-{n}");
            let labels = [
                pick(n, 1, &["s1", "s2", "it's \"s3\"", ""]),
                pick(n, 2, &["web", "app"]),
                "publisher",
                "log",
            ];
            // Several in the same microsecond.
            let seconds = i64::try_from(mix(n, 3)).unwrap() * 60;
            clicks.push(Click::from_parts(
                clickid(&id),
                i64::try_from(1 + mix(n, 4) % 4).unwrap(),
                labels.map(str::to_owned),
                at(-seconds),
            ));
            let number = u128::try_from(n).unwrap() * 10;
            if n % 3 > 0 {
                postbacks.push(sent(number, n, &id, ""));
            }
            if n % 3 > 1 {
                postbacks.push(sent(number + 1, n, &id, "deposit"));
            }
        }
        all.extend(clicks.clone());
        let worker = &mut workers[usize::try_from(part % 2).unwrap()];
        worker.batch(store, &clicks, &postbacks).await;
        let changes = postbacks.iter().filter_map(|one| {
            let number = one.request_id.as_uuid().as_u128();
            let n = i64::try_from(number % 100_000).unwrap();
            let mut change = one.clone();
            change.request_id = RequestId::from_uuid(uuid::Uuid::from_u128(number + 5));
            change.received_at = one.received_at + jiff::SignedDuration::from_hours(30);
            change.status = Some(said(["reversed", "approved"][mix(n, 5) % 2]));
            mix(n, 6).is_multiple_of(5).then_some(change)
        });
        let changes: Vec<Postback> = changes.collect();
        worker.batch(store, &[], &changes).await;
    }
    all
}

fn said(word: &str) -> Said {
    Said {
        word: word.to_owned(),
        status: word.parse().ok(),
    }
}

fn sent(number: u128, n: i64, id: &str, event: &str) -> Postback {
    let revenue = format!("{}.{:06}", mix(n, 7), mix(n, 8));
    let mut one = postback(number, id, &revenue);
    let minutes = i64::try_from(mix(n, 9) % 3_000).unwrap();
    one.received_at = at(minutes * 60);
    one.event = (!event.is_empty()).then(|| event.to_owned());
    one.currency = Currency::normalize(pick(n, 10, &["USD", "EUR", "INR"]));
    one.currency_sent = true;
    one.external_id = (n % 2 == 0).then(|| format!("tx-{n}"));
    one.status = Some(said(pick(n, 11, &["approved", "pending", "rejected"])));
    one.subids[0] = Some(pick(n, 12, &["US", "DE", "", "😀,\"x\"\n"]).to_owned());
    one.subids[4] = (n % 5 == 0).then(|| format!("user{n}"));
    one
}

fn whole() -> Page {
    Page {
        after: None,
        limit: 100_000,
    }
}

async fn everything(database: &Database) -> Vec<ShownConversion> {
    let all = ConversionFilter::of(Campaigns::All);
    let found = database.store.read_conversions(&all, whole(), true).await;
    let found = found.unwrap();
    assert_eq!(
        i64::try_from(found.len()).unwrap(),
        database.number("SELECT count(*) FROM conversions").await
    );
    found
}

/// All pages of so many rows, one after the other.
async fn paged(store: &dyn Store, filter: &ConversionFilter, limit: i64) -> Vec<ShownConversion> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = Page { after, limit };
        let found = store.read_conversions(filter, page, true).await.unwrap();
        let Some(last) = found.last() else {
            return rows;
        };
        assert_ne!(Some(found[0].conversion_id), after.map(|(_, id)| id));
        let time = match filter.date {
            DateOf::Conversion => last.created_at,
            DateOf::Click => last.clicked_at,
        };
        after = Some((time, last.conversion_id));
        rows.extend(found);
    }
}

/// Whether a conversion is one of those that are asked for.
fn matches(filter: &ConversionFilter, one: &ShownConversion) -> bool {
    let time = match filter.date {
        DateOf::Conversion => one.created_at,
        DateOf::Click => one.clicked_at,
    };
    let text = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|text| text == is);
    let maybe = |asked: &Option<String>, is: &Option<String>| {
        text(asked, is.as_deref().unwrap_or_default())
    };
    (match &filter.campaigns {
        Campaigns::All => true,
        Campaigns::Only(ids) => ids.contains(&one.campaign_id),
    }) && filter.range.from.is_none_or(|from| time >= from)
        && filter.range.to.is_none_or(|to| time < to)
        && text(&filter.clickid, &one.clickid)
        && text(&filter.site_id, &one.site_id)
        && text(&filter.source, &one.source)
        && text(&filter.currency, &one.currency)
        && text(&filter.event, &one.event)
        && maybe(&filter.external_id, &one.external_id)
        && filter
            .status
            .is_none_or(|status| status.word() == one.status)
        && filter
            .subids
            .iter()
            .zip(&one.subids)
            .all(|(asked, is)| maybe(asked, is))
}

fn filters() -> Vec<ConversionFilter> {
    let all = || ConversionFilter::of(Campaigns::All);
    let some = |text: &str| Some(text.to_owned());
    let half = Range {
        from: Some(at(600 * 60)),
        to: Some(at(2_000 * 60)),
    };
    let mut subid = all();
    subid.subids[0] = some("😀,\"x\"\n");
    let mut none = all();
    (none.subids[4], none.external_id) = (some(""), some(""));
    let mut clicked = ConversionFilter::of(Campaigns::Only(vec![2, 4]));
    (clicked.date, clicked.range.to) = (DateOf::Click, Some(at(-9_000)));
    vec![
        all(),
        ConversionFilter::of(Campaigns::Only(vec![3])),
        ConversionFilter::of(Campaigns::Only(vec![1, 4, 9])),
        // More than are walked one by one.
        ConversionFilter::of(Campaigns::Only((2..100).collect())),
        ConversionFilter::of(Campaigns::Only(Vec::new())),
        ConversionFilter {
            clickid: some("click-5"),
            ..all()
        },
        ConversionFilter {
            site_id: some("it's \"s3\""),
            source: some("web"),
            ..all()
        },
        ConversionFilter {
            site_id: some(""),
            event: some(""),
            ..all()
        },
        ConversionFilter {
            external_id: some("tx-44"),
            ..all()
        },
        ConversionFilter {
            currency: some("EUR"),
            event: some("deposit"),
            ..all()
        },
        ConversionFilter {
            status: Some(Status::Reversed),
            range: half,
            ..ConversionFilter::of(Campaigns::Only(vec![1, 2]))
        },
        ConversionFilter {
            range: Range {
                from: Some(at(-400_000)),
                to: Some(at(-100_000)),
            },
            date: DateOf::Click,
            ..all()
        },
        subid,
        none,
        clicked,
    ]
}

pub async fn pages_hold_each_conversion_once(database: &Database) {
    fill(database).await;
    let everything = everything(database).await;
    let changed = everything
        .iter()
        .filter(|one| one.history.len() > 1)
        .count();
    assert!(changed > 20, "{changed}");
    for one in &everything {
        assert_eq!(one.history.last().unwrap().status, one.status);
        assert_eq!(one.history[0].request_id, one.conversion_id);
    }
    for filter in filters() {
        let mut expected: Vec<_> = everything
            .iter()
            .filter(|one| matches(&filter, one))
            .cloned()
            .collect();
        if filter.date == DateOf::Click {
            expected.sort_by_key(|one| std::cmp::Reverse((one.clicked_at, one.conversion_id)));
        }
        for limit in [7, 100, 1_000] {
            let rows = paged(database.store.as_ref(), &filter, limit).await;
            assert_eq!(rows, expected, "{filter:?} by {limit}");
        }
        let finds = filter.campaigns != Campaigns::Only(Vec::new());
        assert_eq!(!expected.is_empty(), finds, "{filter:?}");
    }
    let ordered = everything.windows(2).all(|pair| {
        (pair[0].created_at, pair[0].conversion_id) > (pair[1].created_at, pair[1].conversion_id)
    });
    assert!(ordered);
}

type Sums = BTreeMap<(Vec<GroupValue>, String, String), (i64, i128)>;

fn group_of(query: &StatisticsQuery, one: &ShownConversion) -> Vec<GroupValue> {
    let text = |text: &str| GroupValue::Text(text.to_owned());
    let at = match query.filter.date {
        DateOf::Conversion => one.created_at,
        DateOf::Click => one.clicked_at,
    };
    let group = query.group_by.iter().map(|by| match by {
        Dimension::Campaign => GroupValue::Number(one.campaign_id),
        Dimension::Day | Dimension::Hour => time_of(query, *by, at),
        Dimension::Site => text(&one.site_id),
        Dimension::Source => text(&one.source),
        Dimension::Currency => text(&one.currency),
        Dimension::Event => text(&one.event),
        Dimension::Subid(number) => text(
            one.subids[usize::from(*number)]
                .as_deref()
                .unwrap_or_default(),
        ),
    });
    group.collect()
}

fn time_of(query: &StatisticsQuery, by: Dimension, at: Timestamp) -> GroupValue {
    let second = at.as_second();
    let offset = query
        .offsets
        .iter()
        .rev()
        .find(|(from, _)| second >= *from)
        .unwrap_or(&query.offsets[0])
        .1;
    let local = second + offset;
    GroupValue::Number(match by {
        Dimension::Day => local.div_euclid(86_400),
        _ => local.div_euclid(3_600) * 3_600 - offset,
    })
}

async fn statistics(
    database: &Database,
    query: &StatisticsQuery,
) -> (Sums, BTreeMap<Vec<GroupValue>, i64>) {
    let (mut sums, mut clicks) = (Sums::new(), BTreeMap::new());
    for row in database.store.read_statistics(query).await.unwrap() {
        match row.counted {
            Counted::Clicks(count) => assert_eq!(clicks.insert(row.group, count), None),
            Counted::Conversions {
                currency,
                status,
                count,
                revenue_micros,
            } => {
                let key = (row.group, currency, status);
                assert_eq!(sums.insert(key, (count, revenue_micros)), None);
            }
        }
    }
    (sums, clicks)
}

pub async fn statistics_are_what_summing_gives(database: &Database) {
    let clicks = fill(database).await;
    let everything = everything(database).await;
    let half_past = vec![(0, 19_800)];
    // The clocks change in the middle of everything.
    let changing = vec![(0, 7_200), (at(1_500 * 60).as_second(), 3_600)];
    let groups: &[&[Dimension]] = &[
        &[],
        &[Dimension::Day],
        &[Dimension::Hour, Dimension::Campaign],
        &[Dimension::Campaign, Dimension::Currency],
        &[Dimension::Site, Dimension::Source],
        &[Dimension::Source, Dimension::Day],
        &[Dimension::Event],
        &[Dimension::Subid(0), Dimension::Day],
        &[Dimension::Subid(4)],
    ];
    for mut filter in filters() {
        // Sums are kept by quarters of an hour.
        let quarter = |at: Option<Timestamp>| at.map(postern_core::time::bucket);
        filter.range = Range {
            from: quarter(filter.range.from),
            to: quarter(filter.range.to),
        };
        for group_by in groups {
            for offsets in [vec![(0, 0)], half_past.clone(), changing.clone()] {
                let query = StatisticsQuery {
                    filter: filter.clone(),
                    group_by: group_by.to_vec(),
                    offsets,
                    limit: 100_000,
                };
                let mut expected = Sums::new();
                for one in everything.iter().filter(|one| matches(&filter, one)) {
                    let key = (
                        group_of(&query, one),
                        one.currency.clone(),
                        one.status.clone(),
                    );
                    let sum = expected.entry(key).or_default();
                    sum.0 += 1;
                    sum.1 += i128::from(one.revenue_micros);
                }
                let (sums, counts) = statistics(database, &query).await;
                assert_eq!(sums, expected, "{query:?}");
                assert_eq!(counts, clicks_of(&query, &clicks), "{query:?}");
            }
        }
    }
}

fn clicks_of(query: &StatisticsQuery, clicks: &[Click]) -> BTreeMap<Vec<GroupValue>, i64> {
    let mut counts = BTreeMap::new();
    if !query.counts_clicks() {
        return counts;
    }
    if query.group_by.is_empty() {
        counts.insert(Vec::new(), 0);
    }
    for click in clicks {
        let shown = ShownConversion {
            conversion_id: crate::world::request(0),
            clickid: click.clickid.as_str().to_owned(),
            campaign_id: click.campaign_id,
            site_id: click.site_id.clone(),
            source: click.source.clone(),
            revenue_micros: 0,
            currency: String::new(),
            subids: Default::default(),
            external_id: None,
            event: String::new(),
            status: String::new(),
            created_at: click.clicked_at,
            clicked_at: click.clicked_at,
            history: Vec::new(),
        };
        if matches(&query.filter, &shown) {
            *counts.entry(group_of(query, &shown)).or_default() += 1;
        }
    }
    counts
}

async fn log_pages(store: &dyn Store, filter: &LogFilter, limit: i64) -> Vec<ShownPostback> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = Page { after, limit };
        let found = store.read_log(filter, page, true).await.unwrap();
        let Some(last) = found.last() else {
            return rows;
        };
        assert_ne!(Some(found[0].request_id), after.map(|(_, id)| id));
        after = Some((last.received_at, last.request_id));
        rows.extend(found);
    }
}

pub async fn the_log_is_found_by_its_campaigns(database: &Database) {
    fill(database).await;
    let store = database.store.as_ref();
    // One whose click comes late: its campaign is known from then on.
    let mut worker = Worker::new(store, 2).await;
    let late = sent(900_000, 1, "late", "");
    worker
        .batch(store, &[], &[late.clone(), sent(900_001, 2, "never", "")])
        .await;
    let labels = ["s", "web", "", ""].map(str::to_owned);
    let click = Click::from_parts(clickid("late"), 3, labels, at(0));
    worker.batch(store, &[click], &[]).await;

    let all = LogFilter::of(Campaigns::All);
    let everything = log_pages(store, &all, 1_000).await;
    assert_eq!(
        i64::try_from(everything.len()).unwrap(),
        database.number("SELECT count(*) FROM postback_log").await
    );
    let matched = everything
        .iter()
        .find(|one| one.request_id == late.request_id);
    let matched = matched.unwrap();
    assert_eq!(
        (matched.outcome.as_str(), matched.campaign_id),
        ("converted", Some(3))
    );
    assert_eq!(matched.history.len(), 1);
    assert_eq!(matched.history[0].reason, "late_click");

    let some = |text: &str| Some(text.to_owned());
    let filters = [
        all.clone(),
        LogFilter::of(Campaigns::Only(vec![3])),
        LogFilter::of(Campaigns::Only(vec![1, 3])),
        LogFilter::of(Campaigns::Only((2..100).collect())),
        LogFilter {
            outcome: some("click_not_found"),
            ..all.clone()
        },
        LogFilter {
            outcome: some("updated"),
            ..LogFilter::of(Campaigns::Only(vec![2, 3]))
        },
        LogFilter {
            clickid: some("late"),
            ..LogFilter::of(Campaigns::Only(vec![3]))
        },
        LogFilter {
            request_id: Some(late.request_id),
            address: some("192.0.2.1"),
            raw_query: some("clickid="),
            ..all.clone()
        },
        LogFilter {
            range: Range {
                from: Some(at(600 * 60)),
                to: Some(at(2_000 * 60)),
            },
            ..LogFilter::of(Campaigns::Only(vec![3, 4]))
        },
    ];
    for filter in filters {
        let expected: Vec<_> = everything
            .iter()
            .filter(|one| {
                let text = |asked: &Option<String>, is: &str| {
                    asked.as_deref().is_none_or(|text| text == is)
                };
                (match &filter.campaigns {
                    Campaigns::All => true,
                    Campaigns::Only(ids) => one.campaign_id.is_some_and(|id| ids.contains(&id)),
                }) && text(&filter.outcome, &one.outcome)
                    && text(&filter.clickid, one.clickid.as_deref().unwrap_or_default())
                    && filter.request_id.is_none_or(|id| id == one.request_id)
                    && filter.range.from.is_none_or(|from| one.received_at >= from)
                    && filter.range.to.is_none_or(|to| one.received_at < to)
            })
            .cloned()
            .collect();
        assert!(!expected.is_empty(), "{filter:?}");
        for limit in [5, 1_000] {
            assert_eq!(
                log_pages(store, &filter, limit).await,
                expected,
                "{filter:?}"
            );
        }
    }
    let nobody = LogFilter::of(Campaigns::Only(Vec::new()));
    assert!(log_pages(store, &nobody, 10).await.is_empty());
}

/// PostgreSQL only: a question that has to wait too long is given up, and the next one is answered.
pub async fn a_question_that_takes_too_long_is_given_up(database: &Database) {
    let options = StoreOptions {
        query_timeout: Duration::from_millis(200),
        ..StoreOptions::default()
    };
    let store = open(&database.url, options).unwrap();
    let filter = ConversionFilter::of(Campaigns::All);
    let client = crate::engine::connect(&database.url).await;
    client
        .batch_execute("BEGIN; LOCK TABLE conversions IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let error = store.read_conversions(&filter, whole(), false).await;
    assert!(matches!(error, Err(StoreError::TooSlow)), "{error:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    store
        .read_conversions(&filter, whole(), false)
        .await
        .unwrap();
}
