//! Statistics: every group, several together, filters and zones, to the last millionth.

use super::{CONVERSIONS, Loaded, Reader, STATISTICS, same};
use postern_tests::generated::answers;
use postern_tests::generated::question::Question;
use postern_tests::generated::sums::{GROUPS, Group, Groups, sums};
use postern_tests::generated::texts::CAMPAIGNS;
use postern_tests::generated::zone::instant;

pub async fn sums_are_those_of_the_list(loaded: &Loaded) {
    let (one, two) = (&loaded.one, &loaded.two);
    for (group, _) in GROUPS {
        check(loaded, one, &one.ask(), &[group]).await;
        check(loaded, one, &one.ask().by_click(), &[group]).await;
    }
    for (reader, asked, by) in filtered(loaded) {
        check(loaded, reader, &asked, &by).await;
    }
    for (asked, by) in zoned(loaded) {
        check(loaded, one, &asked, &by).await;
    }
    as_ndjson(loaded).await;
    let day = |asked: Question| {
        asked
            .zone("Europe/Berlin")
            .from("2026-10-25", instant("2026-10-24T22:00:00Z"))
            .to("2026-10-25", instant("2026-10-25T23:00:00Z"))
    };
    for (reader, asked) in [
        (two, day(two.ask())),
        (one, day(one.ask()).by_click()),
        (one, one.ask().text("source", "push").status(1)),
        (
            two,
            two.ask().currency("EUR", "EUR").text("site_id", "site-5"),
        ),
    ] {
        totals_are_sums_of_exports(loaded, reader, &asked).await;
    }
}

fn filtered(loaded: &Loaded) -> Vec<(&Reader, Question, Vec<&'static str>)> {
    let (one, two, all, admin) = (&loaded.one, &loaded.two, &loaded.all, &loaded.admin);
    vec![
        (one, one.ask(), vec![]),
        (two, two.ask(), vec!["campaign"]),
        (two, two.ask().campaign(CAMPAIGNS[1]), vec![]),
        (two, two.ask().campaign(CAMPAIGNS[1]), vec!["day"]),
        (two, two.ask().status(2).by_click(), vec!["campaign", "day"]),
        (all, all.ask(), vec!["site", "source"]),
        (all, all.ask(), vec!["source", "currency", "campaign"]),
        (one, one.ask(), vec!["event", "subid0"]),
        (one, one.ask(), vec!["subid3", "subid1", "currency"]),
        (all, all.ask().text("site_id", ""), vec!["source", "day"]),
        (all, all.ask().text("source", "'quoted"), vec!["campaign"]),
        (all, all.ask().text("source", "").by_click(), vec!["site"]),
        (all, all.ask().currency("=1a", "=1A"), vec!["day"]),
        (
            all,
            all.ask().currency("usd", "USD").text("site_id", "site-4"),
            vec![],
        ),
        (two, two.ask().status(0), vec!["campaign"]),
        (all, all.ask().status(3), vec!["source"]),
        (all, all.ask(), vec!["day", "campaign"]),
        (two, two.ask().text("event", ""), vec!["campaign", "event"]),
        (one, one.ask().text("event", "=cmd()"), vec!["hour"]),
        (all, all.ask().text("external_id", ""), vec!["currency"]),
        (all, all.ask().text("external_id", "'"), vec![]),
        (
            all,
            all.ask().text("clickid", "generated-5-17"),
            vec!["source"],
        ),
        (all, all.ask().text("subid1", "\r"), vec!["subid0"]),
        (
            one,
            one.ask().text("subid2", "").text("subid3", ""),
            vec!["subid4"],
        ),
        (admin, admin.ask().text("source", "made-up"), vec!["site"]),
        (admin, admin.ask().campaign(CAMPAIGNS[6]), vec!["source"]),
    ]
}

/// Days and hours where clocks change, and where they stand at odd quarters.
fn zoned(loaded: &Loaded) -> Vec<(Question, Vec<&'static str>)> {
    let one = &loaded.one;
    let mut questions = Vec::new();
    // A day, and the instants at which it begins and ends.
    for (zone, day, begins, ends) in [
        (
            "UTC",
            "2026-10-25",
            "2026-10-25T00:00:00Z",
            "2026-10-26T00:00:00Z",
        ),
        (
            "Europe/Berlin",
            "2026-10-25",
            "2026-10-24T22:00:00Z",
            "2026-10-25T23:00:00Z",
        ),
        (
            "Asia/Kathmandu",
            "2026-10-25",
            "2026-10-24T18:15:00Z",
            "2026-10-25T18:15:00Z",
        ),
        (
            "Africa/Cairo",
            "2026-10-29",
            "2026-10-28T21:00:00Z",
            "2026-10-29T22:00:00Z",
        ),
    ] {
        let asked = one.ask().zone(zone);
        questions.push((asked.clone(), vec!["day"]));
        questions.push((asked.clone().by_click(), vec!["day", "currency"]));
        questions.push((asked.clone().status(1), vec!["hour"]));
        let day = asked.from(day, instant(begins)).to(day, instant(ends));
        questions.push((day.clone(), vec!["hour"]));
        questions.push((day.clone(), vec!["day", "source"]));
        questions.push((day.clone().by_click(), vec!["campaign", "hour"]));
        questions.push((day, vec![]));
    }
    let berlin = one.ask().zone("Europe/Berlin");
    let second_hour = berlin
        .from("2026-10-25T02:00:00+01:00", instant("2026-10-25T01:00:00Z"))
        .to("2026-10-25 02:30:00+01:00", instant("2026-10-25T01:30:00Z"));
    questions.push((second_hour.clone(), vec!["site"]));
    questions.push((second_hour.by_click(), vec![]));
    questions
}

/// Asks as JSON and CSV and compares with the set's own sums.
async fn check(loaded: &Loaded, reader: &Reader, asked: &Question, by: &[&str]) {
    let set = &loaded.set;
    let wanted = sums(&set.conversions, &set.clicks, asked, by);
    let mut asking = asked.clone();
    if !by.is_empty() {
        asking.parameters.push(("group_by", by.join(",")));
    }
    let what = asking.target("", &[]);
    let body = loaded.body(reader, &asking.target(STATISTICS, &[])).await;
    let json = answers::object(&body);
    let got = answers::groups(&answers::objects(json["stats"].get()), by);
    same_groups(&what, &got, &wanted);

    let csv = loaded.format(reader, &asking, STATISTICS, "csv").await;
    let (got, columns) = answers::csv_groups(&csv, by);
    let flat = |(values, group): (&Vec<Option<String>>, &Group)| {
        (answers::flat(values.clone()), group.clone())
    };
    let flat: Groups = wanted.iter().map(flat).collect();
    same_groups(&format!("{what} as csv"), &got, &flat);
    let mut whole = [0; 9];
    for group in wanted.values() {
        whole[0] += i128::from(group.clicks.unwrap_or_default());
        for (place, (count, micros)) in group
            .currencies
            .values()
            .flat_map(|sums| sums.iter().enumerate())
        {
            whole[1 + place] += i128::from(*count);
            whole[5 + place] += micros;
        }
    }
    assert_eq!(columns, whole, "{what}: columns of csv");
}

/// A line for each group: the same as in JSON.
async fn as_ndjson(loaded: &Loaded) {
    let (one, by) = (&loaded.one, ["source", "day"]);
    let mut asked = one.ask().zone("Asia/Kathmandu");
    let wanted = sums(&loaded.set.conversions, &loaded.set.clicks, &asked, &by);
    asked.parameters.push(("group_by", by.join(",")));
    let ndjson = loaded.format(one, &asked, STATISTICS, "ndjson").await;
    let lines: Vec<_> = ndjson.lines().map(answers::object).collect();
    same_groups("ndjson", &answers::groups(&lines, &by), &wanted);
}

#[track_caller]
fn same_groups(what: &str, got: &Groups, wanted: &Groups) {
    let [got, wanted] = [got, wanted].map(|groups| groups.iter().collect::<Vec<_>>());
    same(what, &got, &wanted);
}

/// Statistics against the export of the same question: nothing but answers of Postern.
pub async fn totals_are_sums_of_exports(loaded: &Loaded, reader: &Reader, asked: &Question) {
    let what = asked.target("", &[]);
    let ndjson = loaded.format(reader, asked, CONVERSIONS, "ndjson").await;
    let mut summed = Groups::new();
    for line in answers::ndjson(&ndjson) {
        let value = |name: &str| {
            let place = answers::LISTED.iter().position(|known| *known == name);
            line[place.unwrap()].clone().unwrap()
        };
        let status = value("status");
        let known = &postern_tests::generated::STATUSES;
        let status = known.iter().position(|known| *known == status).unwrap();
        let group = summed.entry(vec![Some(value("campaign_id"))]).or_default();
        let micros = value("revenue").parse().unwrap();
        group.add(&value("currency"), status, micros);
    }
    let more = [("group_by", "campaign".to_owned())];
    let body = loaded.body(reader, &asked.target(STATISTICS, &more)).await;
    let stats = answers::object(&body);
    let mut got = answers::groups(&answers::objects(stats["stats"].get()), &["campaign"]);
    // Exports know nothing of clicks.
    got.values_mut().for_each(|group| group.clicks = None);
    got.retain(|_, group| !group.currencies.is_empty());
    same_groups(&format!("{what} against its export"), &got, &summed);
}
