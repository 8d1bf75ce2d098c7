//! Metrics and logs, as an operator has them.

use postern_tests::stack::unique;
use postern_tests::{Kind, Stack, http, on_both, wait};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

on_both!(shared: metrics, request_ids_in_the_log, admin_endpoints);

/// Where the metrics are told of; the table is what processes export.
const DOCUMENT: &str = "docs/METRICS.md";

/// A metric as it is exported.
#[derive(Clone, Debug, Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// Families in the text format, each series of which belongs to one, with a number.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap().1;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            let family = Family {
                kind: kind.to_owned(),
                help: help.to_owned(),
                labels: BTreeSet::new(),
            };
            assert!(
                families.insert(name.to_owned(), family).is_none(),
                "twice: {line}"
            );
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(!value.is_nan(), "{line}");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let family = ["", "_bucket", "_sum", "_count"].iter().find_map(|end| {
                let name = name.strip_suffix(end)?;
                families.contains_key(name).then(|| name.to_owned())
            });
            let family = family.unwrap_or_else(|| panic!("no TYPE before {line}"));
            let labels = labels.trim_end_matches('}').split("\",");
            let names = labels
                .filter_map(|label| label.split_once("=\""))
                .map(|pair| pair.0);
            let names = names.filter(|label| *label != "le").map(str::to_owned);
            families.get_mut(&family).unwrap().labels.extend(names);
        }
    }
    families
}

/// The lines of a table of what these roles export.
fn table(roles: &[(&str, BTreeMap<String, Family>)]) -> Vec<String> {
    let mut all = BTreeMap::<&str, (Family, Vec<&str>)>::new();
    for (role, families) in roles {
        for (name, family) in families {
            let (merged, by) = all.entry(name).or_default();
            assert!(by.is_empty() || merged.help == family.help, "{name}");
            merged.labels.extend(family.labels.iter().cloned());
            merged.kind.clone_from(&family.kind);
            merged.help.clone_from(&family.help);
            by.push(role);
        }
    }
    let line = |(name, (family, by)): (&&str, &(Family, Vec<&str>))| {
        let labels: Vec<String> = family.labels.iter().map(|one| format!("`{one}`")).collect();
        let by = if by.len() == roles.len() {
            "all".to_owned()
        } else {
            by.join(", ")
        };
        format!(
            "| `{name}` | {} | {} | {by} | {} |",
            family.kind,
            labels.join(", "),
            family.help
        )
    };
    all.iter().map(line).collect()
}

/// What loaded processes export is what is documented, no more and no less.
async fn metrics(stack: &Stack) {
    let clickid = stack.new_click().await;
    let series =
        r#"postern_http_requests_total{outcome="converted",route="postback",status="200"}"#;
    let before = stack.ingress.metric(series).await.unwrap();
    for query in [
        format!("clickid={clickid}"),
        "".into(),
        format!("clickid={}", unique("no")),
    ] {
        stack.postback(&query).await;
    }
    assert!(stack.ingress.metric(series).await.unwrap() >= before + 1.0);
    stack.status("x").await;
    let mut roles = vec![("ingress", &stack.ingress)];
    roles.extend(stack.consumer.as_ref().map(|process| ("consumer", process)));
    roles.extend(stack.reports.as_ref().map(|process| ("reports", process)));
    let path = postern_tests::directory::repository().join(DOCUMENT);
    let document = std::fs::read_to_string(path).unwrap();
    let said: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let end = Instant::now() + wait::PATIENCE;
    loop {
        let mut exported = Vec::new();
        for (role, process) in &roles {
            let answer = http::get(process.admin, "/metrics").await;
            let kind = answer.header("content-type").unwrap();
            assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
            exported.push((*role, families(&answer.body)));
        }
        let mut table = table(&exported);
        let mut said: Vec<String> = said.iter().map(ToString::to_string).collect();
        if stack.kind == Kind::Embedded {
            // One process is all roles.
            for line in table.iter_mut().chain(&mut said) {
                let mut cells: Vec<&str> = line.split(" | ").collect();
                cells.remove(3);
                *line = cells.join(" | ");
            }
        }
        let missing: Vec<_> = table.iter().filter(|line| !said.contains(line)).collect();
        let untrue: Vec<_> = said.iter().filter(|line| !table.contains(line)).collect();
        if missing.is_empty() && untrue.is_empty() {
            break;
        }
        assert!(
            Instant::now() < end,
            "missing in {DOCUMENT}:\n{missing:#?}\nnot exported so:\n{untrue:#?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// At debug every line about a request has its id, from every process that saw it.
async fn request_ids_in_the_log(stack: &Stack) {
    let clickid = stack.new_click().await;
    let mut ids = Vec::new();
    for query in [format!("clickid={clickid}"), "revenue=1".to_owned()] {
        ids.push(stack.postback(&query).await.request_id());
    }
    ids.push(stack.post_clicks("nonsense").await.request_id());
    let long = "x".repeat(200 * 1024);
    ids.push(
        stack
            .get(&format!("/v1/postback?a={long}"))
            .await
            .request_id(),
    );
    for id in ids {
        wait::until("the request is in the log", async || {
            let log = stack.ingress.log();
            let line = log.lines().find(|line| line.contains(&id))?;
            let json: Value = serde_json::from_str(line).ok()?;
            assert_eq!(json["level"], "DEBUG", "{line}");
            let found = [&json["request_id"], &json["span"]["request_id"]];
            assert!(found.contains(&&Value::from(id.clone())), "{line}");
            Some(())
        })
        .await;
    }
    // Nothing of the token is in the log.
    assert!(!stack.ingress.log().contains(postern_tests::stack::TOKEN));
}

async fn admin_endpoints(stack: &Stack) {
    let answer = http::get(stack.ingress.admin, "/healthz").await;
    answer.is(200, r#"{"status":"ok"}"#);
    let (status, readiness) = stack.ingress.readiness().await;
    assert_eq!((status, &readiness["ready"]), (200, &true.into()));
    let expected: &[&str] = match stack.kind {
        Kind::Embedded => &["kafka", "store", "consumer"],
        Kind::Real => &["kafka", "topics", "verdicts"],
    };
    for check in expected {
        assert_eq!(readiness["checks"][check]["ok"], true, "{readiness}");
    }
    http::get(stack.ingress.admin, "/x")
        .await
        .is_error(404, "not_found");
}
