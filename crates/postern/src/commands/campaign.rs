//! `postern campaign`: settings of campaigns, straight in the store. Running processes publish
//! them to the ingresses.

use super::say;
use crate::cli::SetArgs;
use crate::config::Settings;
use crate::random;
use crate::roles::consumer::open_store;
use anyhow::{Context as _, bail, ensure};
use postern_core::campaign::{Campaign, Change, FieldError, PostbackSecret, SecretChange};
use postern_store::{Store, StoreError};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Campaigns per look into the store.
const PAGE: i64 = 1_000;

/// The store, known to have this release's schema.
pub(super) async fn store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    let store = open_store(settings)?;
    store.check_schema().await.context("store.url")?;
    Ok(store)
}

/// `secret` is shown where it was just made.
fn print(campaign: &Campaign, secret: Option<&str>) {
    let mut object = campaign.to_json();
    if let Some(secret) = secret {
        object.insert("secret".to_owned(), secret.into());
    }
    show_json(Value::Object(object));
}

fn show_json(value: Value) {
    // Values of our own always serialise.
    say(&serde_json::to_string_pretty(&value).unwrap_or_default());
}

/// Changes what is named, and tells how the campaign then stands.
pub async fn set(settings: &Settings, args: &SetArgs) -> anyhow::Result<()> {
    ensure!(args.id > 0, "a campaign's id is an integer above 0");
    let store = store(settings).await?;
    let mut shown = None;
    let secret = secret(args, &mut shown)?;
    loop {
        let before = store.campaign(args.id).await?.unwrap_or_else(|| Campaign {
            campaign_id: args.id,
            ..Campaign::default()
        });
        let mut object = before.to_json();
        args.apply(&mut object);
        let mut change = Change::read(&object, Some(args.id)).map_err(named)?;
        change.secret = secret.clone();
        let set = store.set_campaigns(&[change], jiff::Timestamp::now()).await;
        match set {
            Ok(campaigns) => {
                for campaign in &campaigns {
                    print(campaign, shown.as_deref());
                }
                return Ok(());
            }
            // Somebody else was faster: the change is made to what they left.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A flag says it better than the field it stands for.
fn named(error: FieldError) -> anyhow::Error {
    let flag = match error.field.as_str() {
        "networks" => "network".to_owned(),
        field => field.replace('_', "-"),
    };
    anyhow::anyhow!("--{flag}: {}", error.message)
}

fn secret(args: &SetArgs, shown: &mut Option<String>) -> anyhow::Result<SecretChange> {
    if args.no_secret {
        return Ok(SecretChange::Remove);
    }
    let text = if args.new_secret {
        let text = hex::encode(random::bytes::<32>()?);
        *shown = Some(text.clone());
        text
    } else if let Some(path) = &args.secret_file {
        // What isn't UTF-8 isn't printable either, and is refused below.
        let text = String::from_utf8_lossy(&contents(path)?).into_owned();
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        return Ok(SecretChange::Keep);
    };
    let secret = PostbackSecret::parse(&text).context("the secret")?;
    Ok(SecretChange::Set(secret))
}

/// What a file holds; `-` is standard input.
fn contents(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path != Path::new("-") {
        return std::fs::read(path).with_context(|| path.display().to_string());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .context("standard input")?;
    Ok(bytes)
}

/// Tells how a campaign stands, or what one of its versions said.
pub async fn show(settings: &Settings, id: i64, version: Option<i64>) -> anyhow::Result<()> {
    let store = store(settings).await?;
    let Some(campaign) = store.campaign(id).await? else {
        bail!("campaign {id}: nobody set it, it goes by the defaults");
    };
    let Some(version) = version.filter(|version| *version != campaign.version) else {
        print(&campaign, None);
        return Ok(());
    };
    let versions = store.campaign_versions(id).await?;
    let Some(found) = versions.iter().find(|one| one.version == version) else {
        bail!(
            "campaign {id}: there is no version {version}, it is at {}",
            campaign.version
        );
    };
    let mut object = found.settings.to_json();
    object.insert("campaign_id".to_owned(), id.into());
    object.insert("version".to_owned(), version.into());
    object.insert("secret_set".to_owned(), found.secret_set.into());
    object.insert("changed_at".to_owned(), found.changed_at.to_string().into());
    show_json(Value::Object(object));
    Ok(())
}

/// Lists all campaigns: a table, or one JSON object per line.
pub async fn list(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let store = store(settings).await?;
    if !json {
        say("id\tversion\tstatus\tdedupe\tadvertiser\tname\ttracking_url");
    }
    let mut after = 0;
    loop {
        let page = store.campaigns(after, PAGE).await?;
        for campaign in &page {
            after = campaign.campaign_id;
            if json {
                let mut object = campaign.to_json();
                // Elsewhere it is at another one.
                object.remove("version");
                say(&Value::Object(object).to_string());
                continue;
            }
            let set = &campaign.settings;
            let url = set.tracking_url.as_ref().map_or("", |url| url.as_str());
            say(&format!(
                "{}\t{}\t{}\t{}\t{}\t{}\t{url}",
                campaign.campaign_id,
                campaign.version,
                set.status.word(),
                set.dedupe.word(),
                set.advertiser,
                set.name
            ));
        }
        if page.is_empty() {
            return Ok(());
        }
    }
}

/// Sets the campaigns of a file, all or none.
pub async fn import(settings: &Settings, file: &Path) -> anyhow::Result<()> {
    let (changes, wrong) = read(&contents(file)?);
    if !wrong.is_empty() {
        bail!("nothing was imported:\n{}", wrong.join("\n"));
    }
    let store = store(settings).await?;
    let before = versions(store.as_ref()).await?;
    let set = store
        .set_campaigns(&changes, jiff::Timestamp::now())
        .await
        .context("nothing was imported")?;
    let (mut new, mut changed, mut unchanged) = (0, 0, 0);
    for campaign in &set {
        match before.get(&campaign.campaign_id) {
            None => new += 1,
            Some(before) if campaign.version > *before => changed += 1,
            Some(_) => unchanged += 1,
        }
    }
    say(&format!(
        "{new} new, {changed} changed, {unchanged} unchanged"
    ));
    Ok(())
}

/// The versions of all campaigns.
async fn versions(store: &dyn Store) -> Result<HashMap<i64, i64>, StoreError> {
    let mut versions = HashMap::new();
    let mut after = 0;
    loop {
        let page = store.campaigns(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(versions);
        };
        after = last.campaign_id;
        versions.extend(page.iter().map(|one| (one.campaign_id, one.version)));
    }
}

/// The changes that a file asks for, and what is wrong with its lines.
fn read(bytes: &[u8]) -> (Vec<Change>, Vec<String>) {
    let (mut changes, mut wrong) = (Vec::new(), Vec::new());
    let mut lines: HashMap<i64, usize> = HashMap::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let object: Map<String, Value> = match serde_json::from_slice(line) {
            Ok(object) => object,
            Err(why) => {
                // It says where within the line, as if that were the whole.
                let (column, why) = (why.column(), why.to_string());
                let why = why.split(" at line ").next().unwrap_or_default();
                wrong.push(format!(
                    "line {number}: not one JSON object: {why} (column {column})"
                ));
                continue;
            }
        };
        match Change::read(&object, None) {
            Ok(change) => {
                let id = change.campaign_id;
                match lines.insert(id, number) {
                    Some(first) => wrong.push(format!(
                        "line {number}: campaign {id} stands in line {first} already"
                    )),
                    None => changes.push(change),
                }
            }
            Err(error) => wrong.push(format!("line {number}: {error}")),
        }
    }
    (changes, wrong)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_broken_line_is_named() {
        let text = b"{\"campaign_id\":1,\"dedupe\":\"txid\"}\r\n \r\nnot json\n{\"campaign_id\":2,\
                    \"networks\":[\"x\"]}\n{\"name\":\"nobody\"}\n{\"campaign_id\":1}\n[]\n\
                    {\"campaign_id\":3,\"name\":\"\xff\"}\n{\"campaign_id\":4}{}";
        let (changes, wrong) = read(text);
        assert_eq!(changes.len(), 1);
        let starts = [
            "line 3",
            "line 4: networks",
            "line 5: campaign_id",
            "line 6",
            "line 7",
            "line 8",
            "line 9",
        ];
        assert_eq!(wrong.len(), starts.len(), "{wrong:?}");
        for (line, start) in wrong.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        assert!(wrong[3].contains("line 1"), "{wrong:?}");
        // Lines are counted once.
        assert!(!wrong[0].contains("at line"), "{wrong:?}");
    }
}
