//! A real Prometheus on the repository's rules.

use postern_tests::foreign::{Foreign, free_address};
use postern_tests::{Postern, directory, http, wait};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A running one, which looks at its targets each second.
pub struct Prometheus {
    address: SocketAddr,
    targets: PathBuf,
    process: Foreign,
}

impl Prometheus {
    pub async fn start() -> Self {
        let dir = directory::fresh("prometheus");
        let rules = directory::repository().join("deploy/prometheus/rules");
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}/*.yml']\n\
             scrape_configs:\n\
             - job_name: postern\n\
             \x20 file_sd_configs: [{{files: [targets.json], refresh_interval: 1s}}]\n",
            rules.display()
        );
        std::fs::write(dir.join("prometheus.yml"), configuration).unwrap();
        let targets = dir.join("targets.json");
        std::fs::write(&targets, "[]").unwrap();
        let address = free_address();
        let listen = format!("--web.listen-address={address}");
        let process = Foreign::start(
            "prometheus",
            &[
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                &listen,
            ],
            &dir,
        );
        let prometheus = Self {
            address,
            targets,
            process,
        };
        wait::until("Prometheus is ready", async || {
            let mut connection = http::Connection::open(address).await.ok()?;
            let answer = connection
                .request("GET", "/-/ready", &[], None)
                .await
                .ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        prometheus
    }

    /// What it looks at from now on.
    pub fn watch(&self, processes: &[(&str, &Postern)]) {
        let targets: Vec<Value> = processes
            .iter()
            .map(|(role, process)| {
                serde_json::json!({
                    "targets": [process.admin.to_string()],
                    "labels": {"role": role},
                })
            })
            .collect();
        // Never half of it.
        let new = self.targets.with_extension("new");
        std::fs::write(&new, serde_json::to_string(&targets).unwrap()).unwrap();
        std::fs::rename(&new, &self.targets).unwrap();
    }

    /// The series that a query gives now, with their values.
    pub async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let target = format!("/api/v1/query?query={}", encoded(query));
        let answer = http::get(self.address, &target).await;
        assert_eq!(
            answer.status,
            200,
            "{query}: {answer:?}\n{}",
            self.process.log()
        );
        let json = answer.json();
        let series = json["data"]["result"].as_array().unwrap().clone();
        let value = |one: &Value| one["value"][1].as_str().unwrap().parse().unwrap();
        series
            .iter()
            .map(|one| (one["metric"].clone(), value(one)))
            .collect()
    }

    /// The greatest value of a query; `None` where it gives nothing.
    pub async fn greatest(&self, query: &str) -> Option<f64> {
        let values = self.query(query).await;
        values.into_iter().map(|(_, value)| value).reduce(f64::max)
    }

    /// The alerts that a person would hear of now.
    pub async fn firing(&self) -> BTreeSet<String> {
        let firing = self.query(r#"ALERTS{alertstate="firing"}"#).await;
        let name = |(labels, _): &(Value, f64)| labels["alertname"].as_str().unwrap().to_owned();
        firing.iter().map(name).collect()
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
