//! `postern spool …`: looking into an ingress' spool, and emptying one that no ingress uses any
//! more, such as the disk of a machine that is gone.

use super::say;
use crate::config::Settings;
use crate::startup::{prepare_topics, topic_admin};
use anyhow::{Context as _, ensure};
use postern_ingress::{Drain, IngressMetrics, Spooled, Topic};
use postern_kafka::{Producer, ProducerOptions};
use postern_runtime::metrics::Metrics;
use postern_spool::{Spool, SpoolOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `postern spool inspect`: what lies there. Changes nothing; an ingress may be using it.
pub fn inspect(settings: &Settings, directory: Option<&Path>, records: bool) -> anyhow::Result<()> {
    let directory = existing(settings, directory)?;
    let found = postern_spool::inspect(&directory)?;
    let aside = postern_spool::set_aside(&directory)?;
    if records {
        for (_, _, payload) in &found.records {
            say(&String::from_utf8_lossy(payload));
        }
        for path in aside {
            say(&String::from_utf8_lossy(&std::fs::read(path)?));
        }
        return Ok(());
    }
    let mut topics: BTreeMap<Option<Topic>, usize> = BTreeMap::new();
    for (_, _, payload) in &found.records {
        let topic = Spooled::decode(payload).ok().map(|spooled| spooled.topic());
        *topics.entry(topic).or_default() += 1;
    }
    say(&format!("directory  {}", directory.display()));
    say(&format!(
        "segments   {}, {} bytes",
        found.segments, found.bytes
    ));
    say(&format!("records    {}", found.records.len()));
    for (topic, count) in topics {
        let name = topic.map_or("unreadable", Topic::name);
        say(&format!("           {count} {name}"));
    }
    if let (Some(first), Some(last)) = (found.records.first(), found.records.last()) {
        say(&format!("oldest     {}", first.1));
        say(&format!("newest     {}", last.1));
    }
    say(&format!("damaged    {} bytes", found.damaged));
    let files = aside.len();
    say(&format!(
        "set aside  {} bytes in {files} files",
        found.set_aside
    ));
    Ok(())
}

/// `postern spool drain`: hands what lies there to Kafka.
pub async fn drain(settings: &Settings, directory: Option<&Path>) -> anyhow::Result<()> {
    let directory = existing(settings, directory)?;
    let opened = Spool::open(SpoolOptions {
        directory: directory.clone(),
        // Nothing is added to it.
        max_bytes: settings.spool_bytes.unwrap_or(u64::MAX),
    })?;
    for aside in &opened.set_aside {
        let (bytes, file) = (aside.bytes, aside.file.display());
        say(&format!("{bytes} damaged bytes were set aside in {file}"));
    }
    let spool = opened.spool;
    let connection = settings.kafka.connection()?;
    let topics = topic_admin(&connection)?;
    let partitions = prepare_topics(&settings.kafka, &topics)
        .await
        .context("the topics can't be used")?;
    let producer = Producer::new(
        &connection,
        &ProducerOptions {
            name: "drain".to_owned(),
            delivery_timeout: Duration::from_secs(30),
            queue_messages: 10_000,
            linger: ProducerOptions::PROMPT,
        },
    )?;
    let metrics = IngressMetrics::new(&Metrics::new("postern")?)?;
    let drain = Drain::alone(producer, partitions, spool.clone(), metrics);
    let until_empty = async || {
        drain.until_empty().await.with_context(|| {
            let records = spool.status().entries;
            format!("{records} records are left; nothing is lost, run it again")
        })
    };
    until_empty().await?;
    let again = take_back(&spool, &directory).await?;
    if again > 0 {
        until_empty().await?;
        say(&format!(
            "{again} records that had been set aside were tried again"
        ));
    }
    say("the spool is empty");
    let left = postern_spool::set_aside(&directory)?;
    for path in &left {
        say(&format!("set aside  {}", path.display()));
    }
    if !left.is_empty() {
        say("what is set aside could not be read, or Kafka refuses it");
    }
    Ok(())
}

/// Puts whole records that were set aside behind the others; gives how many.
async fn take_back(spool: &Spool, directory: &Path) -> anyhow::Result<usize> {
    let mut again = 0;
    for path in postern_spool::set_aside(directory)? {
        let payload = std::fs::read(&path).with_context(|| path.display().to_string())?;
        if Spooled::decode(&payload).is_err() {
            continue;
        }
        spool.append(payload).await?;
        // It is in the spool by now: twice at most, which its request id tells.
        std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        again += 1;
    }
    Ok(again)
}

fn existing(settings: &Settings, directory: Option<&Path>) -> anyhow::Result<PathBuf> {
    let directory = directory.map_or_else(|| settings.spool_directory(), Path::to_owned);
    ensure!(
        directory.is_dir(),
        "{} is no directory: --dir says where the spool lies, else data_dir/spool",
        directory.display()
    );
    Ok(directory)
}
