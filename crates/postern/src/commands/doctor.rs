//! `postern doctor`: what a role would need, looked at before it is started, or when it won't.

use super::say;
use crate::config::Settings;
use crate::roles::consumer::open_store;
use crate::startup::{topic_admin, topics_of};
use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use postern_kafka::TopicAdmin;
use postern_runtime::telemetry::chain;
use postern_store::Store;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// More than this between our clock and the store's is worth a word: windows, tokens and
/// retention go by clocks.
const SKEW: SignedDuration = SignedDuration::from_secs(2);

/// What was found of one thing.
enum Finding {
    Ok(String),
    /// It works, and should be looked at.
    Odd(String),
    /// It doesn't work: what, and what to do.
    Broken(String),
    /// It could not be looked at, or isn't needed.
    Left(String),
}

/// Looks at everything, and tells each thing in a line. An error where something is broken.
pub async fn doctor(settings: &Settings) -> anyhow::Result<()> {
    let mut broken = 0;
    let mut tell = |what: &str, finding: Finding| {
        let (word, text) = match finding {
            Finding::Ok(text) => ("ok", text),
            Finding::Odd(text) => ("odd", text),
            Finding::Left(text) => ("-", text),
            Finding::Broken(text) => {
                broken += 1;
                ("BROKEN", text)
            }
        };
        say(&format!("{word:<7} {what:<14} {text}"));
    };
    // It was read, or we would not be here.
    tell("configuration", Finding::Ok("can be used".to_owned()));
    let topics = topic_admin(&settings.kafka.connection()?)?;
    let kafka = kafka(&topics, settings).await;
    let reached = matches!(kafka, Finding::Ok(_));
    tell("kafka", kafka);
    if reached {
        for finding in self::topics(&topics, settings).await {
            tell("topics", finding);
        }
    } else {
        tell("topics", Finding::Left("can't be looked at".to_owned()));
    }
    if settings.store.url.expose().is_empty() {
        let why = "store.url is not set; an ingress needs none";
        tell("store", Finding::Left(why.to_owned()));
    } else {
        let store = open_store(settings)?;
        match store.ping().await {
            Ok(()) => {
                tell("store", Finding::Ok("answers".to_owned()));
                let schema = schema(&store).await;
                let is_right = matches!(schema, Finding::Ok(_));
                tell("schema", schema);
                if reached && is_right {
                    tell("belongs", belongs(&store, &topics).await);
                }
                tell("clock", clock(&store).await);
            }
            Err(error) => {
                let why = chain(&error);
                let what = format!("{why}: see that it runs, and store.url");
                tell("store", Finding::Broken(what));
            }
        }
    }
    tell("data_dir", directory(&settings.data_dir));
    if broken > 0 {
        bail!("{broken} of these must be mended first");
    }
    Ok(())
}

async fn kafka(topics: &Arc<TopicAdmin>, settings: &Settings) -> Finding {
    let asked = topics.clone();
    let brokers = &settings.kafka.client.brokers;
    match tokio::task::spawn_blocking(move || asked.ping()).await {
        Ok(Ok(())) => Finding::Ok(format!("{brokers} answers")),
        Ok(Err(error)) => Finding::Broken(format!(
            "{brokers}: {}: see that the brokers run, kafka.brokers, and kafka.options for TLS and \
             passwords",
            chain(&error)
        )),
        Err(error) => Finding::Broken(error.to_string()),
    }
}

async fn topics(topics: &TopicAdmin, settings: &Settings) -> Vec<Finding> {
    match topics.check(&settings.kafka.plan).await {
        Ok(found) if found.is_empty() => {
            vec![Finding::Ok("are as they must be".to_owned())]
        }
        Ok(found) => found
            .into_iter()
            .map(|finding| {
                let text = format!("{} {}", finding.topic, finding.what);
                if finding.fatal {
                    Finding::Broken(text)
                } else {
                    Finding::Odd(text)
                }
            })
            .collect(),
        Err(error) => vec![Finding::Broken(chain(&error))],
    }
}

async fn schema(store: &Arc<dyn Store>) -> Finding {
    match store.check_schema().await {
        Ok(()) => Finding::Ok("is this release's".to_owned()),
        Err(error) => Finding::Broken(chain(&error)),
    }
}

/// Whether the store was filled from these topics: else consumers refuse to start.
async fn belongs(store: &Arc<dyn Store>, topics: &TopicAdmin) -> Finding {
    let found = match topics_of(topics) {
        Ok(found) => found,
        Err(error) => return Finding::Left(chain(&error)),
    };
    match store.check_topics(&found).await {
        Ok(true) => Finding::Ok("the store was filled from these topics".to_owned()),
        Ok(false) => Finding::Ok("no consumer has used the store yet".to_owned()),
        Err(error) => Finding::Broken(chain(&error)),
    }
}

async fn clock(store: &Arc<dyn Store>) -> Finding {
    match store.now().await {
        Ok(theirs) => {
            let off = Timestamp::now().duration_since(theirs).abs();
            if off > SKEW {
                Finding::Odd(format!(
                    "this machine's and the store's are {off:#} apart: synchronize them"
                ))
            } else {
                Finding::Ok("agrees with the store's".to_owned())
            }
        }
        Err(error) => Finding::Broken(chain(&error)),
    }
}

/// Where an ingress keeps its spool, and standalone everything.
fn directory(path: &Path) -> Finding {
    let shown = path.display();
    if !path.exists() {
        return Finding::Left(format!(
            "{shown} does not exist; an ingress makes it when it starts"
        ));
    }
    let probe = path.join(".postern-doctor");
    let written = std::fs::File::create(&probe)
        .and_then(|mut file| file.write_all(b"x").and_then(|()| file.sync_all()));
    // Also where only the fsync failed.
    let _ = std::fs::remove_file(&probe);
    match written {
        Ok(()) => Finding::Ok(format!("{shown} can be written")),
        Err(error) => Finding::Broken(format!(
            "{shown} can't be written ({error}): an ingress without a spool refuses postbacks while \
             kafka is away"
        )),
    }
}
