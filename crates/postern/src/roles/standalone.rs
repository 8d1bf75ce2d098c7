//! `postern standalone`: ingress, consumer and reports, an embedded broker and store, one
//! process, one directory.

use crate::config::Settings;
use crate::random;
use crate::roles::{consumer, ingress, reports};
use crate::startup::{App, prepare_topics, topic_admin};
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use postern_broker::EmbeddedBroker;
use postern_consumer::LocalVerdicts;
use postern_core::record::verdict::Verdict;
use postern_ingress::{Ingress, Pending};
use postern_reports::Reports;
use postern_runtime::http::{Handler, Outgoing, Refusal};
use postern_runtime::lifecycle::Stage;
use postern_runtime::settings::Secret;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Runs everything until the process is told to stop.
pub async fn run(mut settings: Settings) -> anyhow::Result<()> {
    let directory = settings.data_dir.clone();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("data_dir: {} can't be made", directory.display()))?;
    let broker = EmbeddedBroker::start(&directory.join("broker"), settings.broker_listen)
        .await
        .context("broker.listen")?;
    settings.kafka.client.brokers = broker.brokers();
    let token = match settings.ingress.clicks_token.take() {
        Some(token) => token,
        None => kept_token(&settings.clicks_token_file())?,
    };
    settings.ingress.clicks_token = Some(token.clone());
    let app = App::start(settings, "standalone", true).await?;
    app.lifecycle
        .spawn(Stage::Base, "broker", |stop| async move {
            tokio::select! {
                error = broker.closed() => Err(error.into()),
                () = stop.cancelled() => {
                    broker.stop().await;
                    Ok(())
                }
            }
        });

    let connection = app.connection()?;
    let topics = topic_admin(&connection)?;
    let store = consumer::open_measured_store(&app)?;
    for migrated in store
        .migrate()
        .await
        .context("the store can't be migrated")?
    {
        tracing::info!(number = migrated.number, name = migrated.name, "migrated");
    }
    // Before anything is published: new records would take the offsets of lost ones.
    let partitions = prepare_topics(&app.settings.kafka, &topics)
        .await
        .context("the embedded broker's topics")?;
    postern_consumer::rewind(store.as_ref(), &topics)
        .await
        .context("the store's positions can't be compared with the embedded log")?;
    app.watch_kafka(topics.clone(), app.health.check("kafka"));
    app.watch_store(store.clone());

    let parts = ingress::Parts::new(&app, ingress::open_spool(&app.settings)?)?;
    let local = Arc::new(Shortcut(parts.pending.clone()));
    consumer::start(
        &app,
        &connection,
        topics.clone(),
        store.clone(),
        Some(local),
    )?;
    let changed = reports::publish_campaigns(&app, &connection, store.clone())?;
    let reports = reports::build(&app, store, topics, changed)?;
    let gate = parts.gate.clone();
    let campaigns = app.health.check("campaigns");
    let (ingress, end) = ingress::build(&app, &connection, parts, campaigns)?;
    ingress::warm(&end.producer).context("the embedded broker")?;
    gate.open(partitions);
    let both = Both { ingress, reports };
    let address = app.serve("http", both, || end.wait()).await?;
    greet(address, &token);
    app.finish().await
}

/// Both handlers on one listener.
struct Both {
    ingress: Ingress,
    reports: Reports,
}

impl Handler for Both {
    type Body = Outgoing;

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Outgoing> {
        if postern_reports::owns(request.uri().path()) {
            self.reports.handle(request, peer).await
        } else {
            self.ingress.handle(request, peer).await.map(Into::into)
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        self.ingress.refuse(refusal)
    }
}

/// Verdicts for the ingress of this process need no topic between.
struct Shortcut(Pending);

impl LocalVerdicts for Shortcut {
    fn instance(&self) -> &str {
        self.0.instance()
    }

    fn deliver(&self, verdicts: Vec<Verdict>) {
        self.0.resolve(verdicts);
    }
}

/// The token of an earlier start in this directory, or a new one that later starts find.
fn kept_token(path: &Path) -> anyhow::Result<Secret> {
    if path.exists() {
        return Secret::from_file(path).context("the kept clicks token can't be read");
    }
    let token = hex::encode(random::bytes::<16>()?);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options
        .open(path)
        .with_context(|| format!("{} can't be written", path.display()))?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    Ok(Secret::new(token))
}

/// Tells a person what to do first.
fn greet(address: SocketAddr, token: &Secret) {
    let mut reachable = address;
    if reachable.ip().is_unspecified() {
        reachable.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let token = token.expose();
    let text = format!(
        r#"
Postern listens on http://{address}
The clicks token is {token}

A click, as the ad server announces it:
  curl -H 'Authorization: Bearer {token}' -d '{{"clickid":"abc123","campaign_id":18}}' 'http://{reachable}/v1/clicks'
Its conversion, as the advertiser reports it:
  curl 'http://{reachable}/v1/postback.php?clickid=abc123&revenue=1.20'
A token for reading what was recorded, and for setting campaigns:
  postern token create --admin

"#
    );
    // Nobody may be there to read it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}
