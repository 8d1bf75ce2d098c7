//! `postern reports`.

use crate::config::Settings;
use crate::roles::consumer::open_measured_store;
use crate::startup::{App, retry, topic_admin};
use postern_kafka::{Connection, TopicAdmin};
use postern_reports::{Publisher, Reports, ReportsConfig, ReportsMetrics};
use postern_runtime::lifecycle::Stage;
use postern_store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Runs the role until the process is told to stop.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let app = App::start(settings, "reports", true).await?;
    let connection = app.connection()?;
    let topics = topic_admin(&connection)?;
    let store = open_measured_store(&app)?;
    app.watch_kafka(topics.clone(), app.health.check("kafka"));
    app.watch_store(store.clone());
    watch_schema(&app, store.clone());
    let changed = publish_campaigns(&app, &connection, store.clone())?;
    let reports = build(&app, store, topics, changed)?;
    app.serve("reports", reports, || {}).await?;
    app.finish().await
}

/// The reports server.
pub fn build(
    app: &App,
    store: Arc<dyn Store>,
    topics: Arc<TopicAdmin>,
    changed: Arc<Notify>,
) -> anyhow::Result<Reports> {
    let config = ReportsConfig {
        // The longest wait of an ingress that is configured alike, and room for its clock.
        in_transit: app.settings.ingress.answer_timeout + Duration::from_secs(5),
        postbacks_retention: app.settings.kafka.plan.retention.postbacks,
        max_lookups: 4,
        max_body: app.settings.ingress.max_body,
        body_timeout: app.settings.ingress.body_timeout,
        trusted_proxies: app.settings.ingress.trusted_proxies.clone(),
        failures_per_address: app.settings.reports.failures_per_address,
        max_exports: app.settings.reports.max_exports,
    };
    let metrics = ReportsMetrics::new(&app.metrics)?;
    Ok(Reports::new(config, store, topics, changed, metrics))
}

/// Publishes campaigns for as long as the process runs; gives what wakes the publisher.
pub fn publish_campaigns(
    app: &App,
    connection: &Connection,
    store: Arc<dyn Store>,
) -> anyhow::Result<Arc<Notify>> {
    let changed = Arc::new(Notify::new());
    let publisher = Publisher::new(connection, store, changed.clone(), &app.metrics)?;
    app.tend("campaigns", publisher.producer())?;
    app.lifecycle
        .spawn(Stage::Workers, "campaigns", |stop| async move {
            publisher.run(stop).await;
            Ok(())
        });
    Ok(changed)
}

fn watch_schema(app: &App, store: Arc<dyn Store>) {
    let check = app.health.check("schema");
    app.lifecycle
        .spawn(Stage::Workers, "schema", |stop| async move {
            let attempt = || store.check_schema();
            if retry(&stop, &check, "the store can't be used", attempt)
                .await
                .is_some()
            {
                check.ok();
                stop.cancelled().await;
            }
            Ok(())
        });
}
