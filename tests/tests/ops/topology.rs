//! The topology of docker-compose.yml, each container a process: nginx before the ingresses and
//! the reports, consumers, Kafka, PostgreSQL, Prometheus.

use crate::prometheus::Prometheus;
use postern_tests::checker::AnswerKind;
use postern_tests::foreign::{Foreign, free_address};
use postern_tests::history::History;
use postern_tests::process::settings;
use postern_tests::real::{self, World};
use postern_tests::traffic::{Traffic, campaigns};
use postern_tests::{Postern, Stack, directory, http, run, wait};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the runbook names for a dead consumer that was the only one.
const NO_CONSUMER: [&str; 4] = [
    "PosternTargetDown",
    "PosternRoleGone",
    "PosternNothingConsumed",
    "PosternVerdictBreakerOpen",
];

/// nginx with the repository's routes.
struct Proxy {
    address: SocketAddr,
    reports: SocketAddr,
    dir: PathBuf,
    process: Foreign,
}

impl Proxy {
    async fn start(ingresses: &[SocketAddr], reports: SocketAddr) -> Self {
        let dir = directory::fresh("nginx");
        let address = free_address();
        configure(&dir, address, ingresses, reports);
        let place = dir.display().to_string();
        let arguments = ["-p", &place, "-c", "nginx.conf", "-e", "error.log"];
        let process = Foreign::start("nginx", &arguments, &dir);
        wait::until("nginx listens", async || {
            http::Connection::open(address).await.ok()
        })
        .await;
        Self {
            address,
            reports,
            dir,
            process,
        }
    }

    /// Sends requests to these from now on, and has let go of others when this returns.
    async fn send_to(&self, ingresses: &[SocketAddr]) {
        let before = self.process.children();
        configure(&self.dir, self.address, ingresses, self.reports);
        self.process.signal("HUP");
        wait::until("nginx' workers of before are gone", async || {
            let now = self.process.children();
            let gone = before.iter().all(|id| !now.contains(id));
            (gone && !now.is_empty()).then_some(())
        })
        .await;
    }
}

fn configure(
    dir: &std::path::Path,
    address: SocketAddr,
    ingresses: &[SocketAddr],
    reports: SocketAddr,
) {
    let routes = directory::repository().join("deploy/nginx/routes.conf");
    let servers: String = ingresses
        .iter()
        .map(|ingress| format!("server {ingress} max_fails=0; "))
        .collect();
    // A reload closes idle connections, also when a caller is just about to use one. Callers that
    // don't try again can't tell; these don't keep any.
    let text = format!(
        "daemon off; pid nginx.pid; worker_processes 1; error_log error.log;\n\
         events {{ worker_connections 4000; }}\n\
         http {{\n\
         access_log off; keepalive_timeout 0;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         upstream ingress {{ {servers} keepalive 64; }}\n\
         upstream reports {{ server {reports} max_fails=0; keepalive 4; }}\n\
         server {{ listen {address}; include {}; }}\n\
         }}\n",
        routes.display()
    );
    std::fs::write(dir.join("nginx.conf"), text).unwrap();
}

/// Each panel's title and queries.
fn panels() -> Vec<(String, Vec<String>)> {
    let dir = directory::repository().join("deploy/grafana/dashboards");
    let mut all = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            let targets = panel["targets"].as_array().unwrap().iter();
            let queries = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
            let title = format!("{}: {}", dashboard["uid"], panel["title"]);
            all.push((title, queries.collect()));
        }
    }
    all
}

/// Waits until each panel shows something, however little.
async fn all_panels_show(prometheus: &Prometheus) {
    for (title, queries) in panels() {
        for query in queries {
            // Nothing may stand in for what isn't there.
            assert!(!query.contains(" or "), "{title}: {query}");
            wait::within(
                Duration::from_secs(90),
                &format!("{title} shows {query}"),
                async || {
                    let series = prometheus.query(&query).await;
                    series
                        .iter()
                        .any(|(_, value)| value.is_finite())
                        .then_some(())
                },
            )
            .await;
        }
    }
}

struct Topology {
    stack: Stack,
    second_consumer: Option<Postern>,
    more_ingresses: Vec<Postern>,
    prometheus: Prometheus,
}

impl Topology {
    fn ingresses(&self) -> Vec<SocketAddr> {
        std::iter::once(&self.stack.ingress)
            .chain(&self.more_ingresses)
            .map(|ingress| ingress.http)
            .collect()
    }

    fn watch(&self) {
        let mut all = vec![("ingress", &self.stack.ingress)];
        all.extend(self.more_ingresses.iter().map(|one| ("ingress", one)));
        all.extend(self.stack.consumer.iter().map(|one| ("consumer", one)));
        all.extend(self.second_consumer.iter().map(|one| ("consumer", one)));
        all.extend(self.stack.reports.iter().map(|one| ("reports", one)));
        self.prometheus.watch(&all);
    }

    async fn more_ingresses(&mut self, count: usize) {
        for _ in 0..count {
            let mut ingress = Postern::start("ingress", &self.stack.settings).await;
            ingress.ready().await;
            self.more_ingresses.push(ingress);
        }
        self.watch();
    }

    /// Waits until these go off and no others, and still do a little later.
    async fn fires(&self, expected: &BTreeSet<String>) {
        let mut end = Instant::now() + Duration::from_secs(240);
        let mut since = None;
        loop {
            let firing = self.prometheus.firing().await;
            if firing == *expected {
                let since = *since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(10) {
                    return;
                }
                end = end.max(Instant::now() + Duration::from_secs(1));
            } else {
                since = None;
            }
            assert!(
                Instant::now() < end,
                "{expected:?} were to go off, and {firing:?} do"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

#[test]
#[ignore = "make test-ops"]
fn scaled_watched_and_alerted() {
    if real::missing(true).is_some() {
        return;
    }
    run::plain(async || {
        let world = Arc::new(World::own());
        let proxies = settings(&[("HTTP__TRUSTED_PROXIES", "127.0.0.1")]);
        let stack = Stack::on(world.clone(), &proxies).await;
        stack.import(&campaigns(0));
        let second = Postern::start("consumer", &stack.settings).await;
        let mut topology = Topology {
            stack,
            second_consumer: Some(second),
            more_ingresses: Vec::new(),
            prometheus: Prometheus::start().await,
        };
        topology.watch();
        let reports = topology.stack.reports_address();
        let proxy = Proxy::start(&topology.ingresses(), reports).await;
        routes(&proxy).await;

        let history = History::new();
        let traffic = Traffic::start(&[proxy.address], &history, 20, 200);
        tokio::time::sleep(Duration::from_secs(5)).await;

        // 1 → 3 → 1.
        topology.more_ingresses(2).await;
        proxy.send_to(&topology.ingresses()).await;
        for ingress in &topology.more_ingresses {
            wait::until("it takes postbacks", async || {
                let series = r#"postern_http_requests_total{outcome="converted",route="postback",status="200"}"#;
                (ingress.metric(series).await? > 20.0).then_some(())
            })
            .await;
        }
        // Somebody looks at a status, so that the reports have something to show.
        for _ in 0..3 {
            http::get(proxy.address, "/v1/postback/status?request_id=x").await;
        }
        all_panels_show(&topology.prometheus).await;
        proxy.send_to(&[topology.stack.ingress.http]).await;
        for mut ingress in std::mem::take(&mut topology.more_ingresses) {
            assert!(ingress.stop().await.success());
        }
        topology.watch();
        let counts = history.counts();
        for kind in [
            AnswerKind::NoAnswer,
            AnswerKind::InternalError,
            AnswerKind::Odd,
        ] {
            assert_eq!(counts.of(kind), 0, "{counts}");
        }
        assert!(counts.of(AnswerKind::Standard) > 300, "{counts}");

        // Kafka goes and comes: the panels of the spool move.
        world.kill_kafka();
        let spooled = async |topology: &Topology, held: bool| {
            wait::until("the spool's panel moves", async || {
                let records = topology
                    .prometheus
                    .greatest("sum(postern_spool_records)")
                    .await?;
                ((records > 0.0) == held).then_some(())
            })
            .await;
        };
        spooled(&topology, true).await;
        let open = topology
            .prometheus
            .greatest("sum(postern_publish_breaker_open)");
        assert!(open.await > Some(0.0));
        world.start_kafka();
        spooled(&topology, false).await;
        topology.stack.ingress.ready().await;
        topology.stack.consumer.as_mut().unwrap().ready().await;
        // These callers' traffic has clicks that two campaigns claim.
        let calm = BTreeSet::from(["PosternRecordsRejected".to_owned()]);
        topology.fires(&calm).await;

        // Both consumers die: those alerts, and no others.
        topology.stack.consumer.as_mut().unwrap().kill();
        topology.second_consumer.as_mut().unwrap().kill();
        let mut expected = calm.clone();
        expected.extend(NO_CONSUMER.map(str::to_owned));
        topology.fires(&expected).await;
        let settings = topology.stack.settings.clone();
        topology
            .stack
            .consumer
            .as_mut()
            .unwrap()
            .start_again(&settings)
            .await;
        topology
            .second_consumer
            .as_mut()
            .unwrap()
            .start_again(&settings)
            .await;
        topology.fires(&calm).await;
        traffic.finish().await;

        let counts = history.counts();
        assert_eq!(counts.of(AnswerKind::NoAnswer), 0, "{counts}");
        assert_eq!(counts.of(AnswerKind::InternalError), 0, "{counts}");
        let taken = counts.of(AnswerKind::Standard)
            + counts.of(AnswerKind::Duplicate)
            + counts.of(AnswerKind::Updated)
            + counts.of(AnswerKind::Queued);
        wait::until("all that was taken is in the log", async || {
            let logged = world.query("SELECT count(*) FROM postback_log");
            (logged.trim().parse::<usize>().unwrap() >= taken).then_some(())
        })
        .await;
        drop(topology);
        world.end();
    });
}

/// nginx sends each path to the role that serves it.
async fn routes(proxy: &Proxy) {
    let refused = http::get(proxy.address, "/v1/postback.php").await;
    refused.is_error(400, "missing_clickid");
    let status = http::get(proxy.address, "/v1/postback/status").await;
    status.is_error(400, "missing_request_id");
    for path in [
        "/v1/conversions",
        "/v1/stats.php",
        "/v1/postbacks",
        "/v1/campaigns/1",
    ] {
        http::get(proxy.address, path)
            .await
            .is_error(401, "unauthorized");
    }
    http::get(proxy.address, "/metrics")
        .await
        .is_error(404, "not_found");
}
