//! Rules and alerts, by Prometheus' own checker.

use postern_tests::directory::repository;
use std::process::Command;

pub const ALERTS: &str = "deploy/prometheus/rules/alerts.yml";

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(repository().join("deploy/prometheus"))
        .output()
        .expect("promtool is missing; get it with: deploy/parts.sh install");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}\n{said}\n{error}");
}

/// The alerts' names.
pub fn alerts() -> Vec<String> {
    let text = std::fs::read_to_string(repository().join(ALERTS)).unwrap();
    let names = text.lines().filter_map(|line| line.split_once("- alert: "));
    names.map(|(_, name)| name.to_owned()).collect()
}

#[test]
#[ignore = "make test-ops"]
fn rules_are_sound_and_each_alert_fires_when_it_should() {
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"]);
    for file in ["rules/recording.yml", "rules/alerts.yml"] {
        promtool(&["check", "rules", file]);
    }
    promtool(&["test", "rules", "tests/alerts.yml"]);
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let (rules, tests) = (read(ALERTS), read("deploy/prometheus/tests/alerts.yml"));
    let runbook = read("docs/RUNBOOK.md");
    let alerts = alerts();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in &alerts {
        for what in ["fires", "is quiet"] {
            let test = format!("- name: {alert} {what}");
            assert!(tests.contains(&test), "no {test}");
        }
        assert!(
            runbook.contains(&format!("\n## {alert}\n")),
            "{alert} has no section in the runbook"
        );
        let link = format!("docs/RUNBOOK.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&link), "no link {link}");
    }
    for section in runbook.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(
            alerts.iter().any(|alert| alert == section),
            "{section} is no alert"
        );
    }
}
