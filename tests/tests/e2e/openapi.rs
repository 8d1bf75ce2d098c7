//! docs/openapi.json and what is served are the same. That no answer differs from it is seen by
//! `make test-ops`.

use postern_tests::pages::blocks_of;
use postern_tests::{Stack, directory, http, on_both};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// The schemas of whole bodies.
const BODIES: [&str; 13] = [
    "Converted",
    "Duplicate",
    "Updated",
    "Queued",
    "Error",
    "Checked",
    "ClicksTaken",
    "Decided",
    "Pending",
    "Conversions",
    "Statistics",
    "Log",
    "CampaignAnswer",
];

on_both!(shared: paths_and_methods);

fn document() -> Value {
    let path = directory::repository().join("docs/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The paths of the API, with their methods and whose they are.
fn operations() -> BTreeMap<String, (BTreeSet<String>, String)> {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut all = BTreeMap::new();
    for (path, item) in paths {
        let methods = METHODS
            .iter()
            .filter(|method| item.get(method.to_lowercase()).is_some());
        let methods: BTreeSet<String> = methods.map(|method| (*method).to_owned()).collect();
        let first = &item[methods.first().unwrap().to_lowercase()];
        let tag = first["tags"][0].as_str().unwrap().to_owned();
        all.insert(path.clone(), (methods, tag));
    }
    all
}

async fn paths_and_methods(stack: &Stack) {
    for (path, (methods, tag)) in operations() {
        let address = match tag.as_str() {
            "ingress" => stack.ingress.http,
            "reports" => stack.reports_address(),
            _ => stack.ingress.admin,
        };
        let target = path.replace("{id}", "18");
        for method in METHODS {
            let answer = http::request(address, method, &target, &[], Some(b"")).await;
            if methods.contains(method) {
                assert_ne!(answer.status, 405, "{method} {path}");
                let unknown = answer.body.contains(r#""error":"not_found""#);
                assert!(!unknown, "{method} {path}: {}", answer.body);
            } else {
                assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
                let allowed = answer.header("allow").unwrap();
                let allowed: BTreeSet<String> = allowed.split(", ").map(str::to_owned).collect();
                let read: BTreeSet<String> =
                    allowed.into_iter().filter(|one| one != "HEAD").collect();
                assert_eq!(read, methods, "{path}");
            }
        }
    }
}

/// Every path that the API's page and the proxy know.
#[test]
fn every_path_is_in_it() {
    let known = operations();
    let page = std::fs::read_to_string(directory::repository().join("docs/API.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `GET") || line.starts_with("| `POST"));
    let mut named = BTreeSet::new();
    for row in rows {
        let paths = row.split('|').nth(1).unwrap();
        let words = paths.split(['`', ' ', ',']);
        named.extend(
            words
                .filter(|word| word.starts_with("/v1/"))
                .map(str::to_owned),
        );
    }
    let api = known.iter().filter(|(_, (_, tag))| tag != "admin");
    let api: BTreeSet<String> = api.map(|(path, _)| path.clone()).collect();
    assert_eq!(named, api, "docs/API.md and docs/openapi.json");
    let routes = directory::repository().join("deploy/nginx/routes.conf");
    let routes = std::fs::read_to_string(routes).unwrap();
    for (path, (_, tag)) in known.iter().filter(|(_, (_, tag))| tag != "admin") {
        let place = match path.strip_suffix("{id}") {
            Some(start) => format!("location {start} {{ proxy_pass http://{tag};"),
            None => format!("location = {path} {{ proxy_pass http://{tag};"),
        };
        assert!(routes.contains(&place), "no {place} in routes.conf");
    }
}

/// What the pages show as answers are answers of the document.
#[test]
fn examples_are_of_its_schemas() {
    let document = document();
    let validators = BODIES.map(|name| {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": format!("#/components/schemas/{name}"),
            "components": document["components"],
        });
        (name, jsonschema::validator_for(&schema).unwrap())
    });
    let mut used = BTreeSet::new();
    for page in ["README.md", "docs/API.md"] {
        for block in blocks_of(page, |_| true) {
            if block.language != "json" {
                continue;
            }
            let body: Value = serde_json::from_str(&block.text).unwrap();
            let fits = validators.iter().filter(|(_, one)| one.is_valid(&body));
            let fits: Vec<_> = fits.map(|(name, _)| *name).collect();
            assert_eq!(fits.len(), 1, "{page}: {fits:?}: {}", block.text);
            used.extend(fits);
        }
    }
    assert!(used.len() > 7, "{used:?}");
}
