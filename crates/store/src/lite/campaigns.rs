//! Campaigns: read, set, and handed over for publishing.

use super::lane::{Columns, Session, finish};
use super::read::rows;
use super::write::time;
use crate::{CampaignSink, CampaignVersion, StoreError, parts};
use jiff::Timestamp;
use libsql::Value;
use postern_core::campaign::{Campaign, Change};

const OF: &str = "\
SELECT campaign_id, version, settings, secret FROM campaigns
 WHERE campaign_id IN (SELECT value FROM json_each(?1)) ORDER BY campaign_id";

const PAGE: &str = "\
SELECT campaign_id, version, settings, secret FROM campaigns
 WHERE campaign_id > ?1 ORDER BY campaign_id LIMIT ?2";

const VERSIONS: &str = "\
SELECT version, changed_at, settings, secret_set FROM campaign_versions
 WHERE campaign_id = ?1 ORDER BY version DESC";

const SET: &str = "\
INSERT INTO campaigns (campaign_id, version, settings, secret) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (campaign_id) DO UPDATE SET version = excluded.version,
    settings = excluded.settings, secret = excluded.secret";

const KEEP: &str = "\
INSERT INTO campaign_versions (campaign_id, version, settings, secret_set, changed_at)
VALUES (?1, ?2, ?3, ?4, ?5)";

const UNPUBLISHED: &str = "\
SELECT campaign_id, version, settings, secret FROM campaigns
 WHERE published < version ORDER BY campaign_id LIMIT ?1";

const PUBLISHED: &str = "UPDATE campaigns SET published = ?2 WHERE campaign_id = ?1";

fn campaign(columns: &Columns) -> Result<Campaign, StoreError> {
    parts::campaign(
        columns.integer(0)?,
        columns.integer(1)?,
        &columns.text(2)?,
        columns.maybe_text(3)?.as_deref(),
    )
}

pub(super) fn of(session: &Session, campaigns: &[i64]) -> Result<Vec<Campaign>, StoreError> {
    rows(session, OF, campaigns, campaign)
}

pub(super) fn page(session: &Session, after: i64, limit: i64) -> Result<Vec<Campaign>, StoreError> {
    session.rows(PAGE, vec![after.into(), limit.into()], campaign)
}

pub(super) fn versions(
    session: &Session,
    campaign_id: i64,
) -> Result<Vec<CampaignVersion>, StoreError> {
    session.rows(VERSIONS, vec![campaign_id.into()], |columns| {
        Ok(CampaignVersion {
            version: columns.integer(0)?,
            changed_at: columns.time(1)?,
            settings: parts::settings(&columns.text(2)?)?,
            secret_set: columns.integer(3)? != 0,
        })
    })
}

pub(super) fn set(
    session: &Session,
    changes: &[Change],
    at: Timestamp,
) -> Result<Vec<Campaign>, StoreError> {
    let changes = parts::in_order(changes)?;
    session.transaction(|| {
        let mut campaigns = Vec::with_capacity(changes.len());
        for change in changes {
            let before = of(session, &[change.campaign_id])?.pop();
            let before = before.unwrap_or_else(|| Campaign {
                campaign_id: change.campaign_id,
                ..Campaign::default()
            });
            let after = parts::apply(&before, change)?;
            if after.version > before.version {
                let id = Value::from(after.campaign_id);
                let version = Value::from(after.version);
                let settings = Value::from(parts::write_settings(&after.settings));
                let secret = after.secret.as_ref().map(|secret| secret.expose());
                let row = vec![id.clone(), version.clone(), settings.clone(), secret.into()];
                session.each(SET, [row])?;
                let row = vec![id, version, settings, secret.is_some().into(), time(at)];
                session.each(KEEP, [row])?;
            }
            campaigns.push(after);
        }
        Ok(campaigns)
    })
}

/// The file's write lock stands for the rows' locks: nothing else is written meanwhile.
pub(super) fn publish(
    session: &Session,
    most: i64,
    sink: &dyn CampaignSink,
) -> Result<usize, StoreError> {
    session.transaction(|| {
        let campaigns = session.rows(UNPUBLISHED, vec![most.into()], campaign)?;
        if !campaigns.is_empty() {
            finish(sink.publish(&campaigns)).map_err(StoreError::Unpublished)?;
            let rows = campaigns
                .iter()
                .map(|one| vec![Value::from(one.campaign_id), Value::from(one.version)]);
            session.each(PUBLISHED, rows)?;
        }
        Ok(campaigns.len())
    })
}
