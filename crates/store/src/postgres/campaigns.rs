//! Campaigns: read, set, and handed over for publishing.

use super::connection::Lease;
use super::error;
use super::read::{get, rows};
use super::write::BEGIN;
use crate::{CampaignSink, CampaignVersion, StoreError, parts};
use jiff::Timestamp;
use postern_core::campaign::{Campaign, Change};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

const OF: &str = "\
SELECT campaign_id, version, settings::text, secret FROM campaigns
 WHERE campaign_id = ANY($1) ORDER BY campaign_id";

const PAGE: &str = "\
SELECT campaign_id, version, settings::text, secret FROM campaigns
 WHERE campaign_id > $1 ORDER BY campaign_id LIMIT $2";

const VERSIONS: &str = "\
SELECT version, changed_at, settings::text, secret_set FROM campaign_versions
 WHERE campaign_id = $1 ORDER BY version DESC";

const CREATE: &str = "\
INSERT INTO campaigns (campaign_id, version)
SELECT id, 0 FROM unnest($1::bigint[]) AS t(id) ORDER BY id
ON CONFLICT (campaign_id) DO NOTHING";

const LOCK: &str = "\
SELECT campaign_id, version, settings::text, secret FROM campaigns
 WHERE campaign_id = ANY($1) ORDER BY campaign_id FOR UPDATE";

/// All at once: an import has thousands, and a round trip for each would take too long.
const SET: &str = "\
UPDATE campaigns AS c SET version = t.version, settings = t.settings::json, secret = t.secret
  FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
    AS t(campaign_id, version, settings, secret)
 WHERE c.campaign_id = t.campaign_id";

const KEEP: &str = "\
INSERT INTO campaign_versions (campaign_id, version, settings, secret_set, changed_at)
SELECT campaign_id, version, settings::json, secret IS NOT NULL, $5
  FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
    AS t(campaign_id, version, settings, secret)";

/// Rows that another publisher holds are its own.
const UNPUBLISHED: &str = "\
SELECT campaign_id, version, settings::text, secret FROM campaigns
 WHERE published < version ORDER BY campaign_id LIMIT $1 FOR UPDATE SKIP LOCKED";

const PUBLISHED: &str = "\
UPDATE campaigns SET published = version WHERE campaign_id = ANY($1)";

fn campaign(row: &Row) -> Result<Campaign, StoreError> {
    parts::campaign(get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?)
}

pub(super) async fn of(lease: &Lease, campaigns: &[i64]) -> Result<Vec<Campaign>, StoreError> {
    rows(lease, OF, campaigns)
        .await?
        .iter()
        .map(campaign)
        .collect()
}

pub(super) async fn page(
    lease: &Lease,
    after: i64,
    limit: i64,
) -> Result<Vec<Campaign>, StoreError> {
    let rows = lease.rows(PAGE, &[&after, &limit]).await?;
    rows.iter().map(campaign).collect()
}

pub(super) async fn versions(
    lease: &Lease,
    campaign_id: i64,
) -> Result<Vec<CampaignVersion>, StoreError> {
    let rows = lease.rows(VERSIONS, &[&campaign_id]).await?;
    rows.iter()
        .map(|row| {
            Ok(CampaignVersion {
                version: get(row, 0)?,
                changed_at: get(row, 1)?,
                settings: parts::settings(get(row, 2)?)?,
                secret_set: get(row, 3)?,
            })
        })
        .collect()
}

async fn execute(
    lease: &Lease,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<u64, StoreError> {
    let statement = lease.prepare_cached(sql).await.map_err(error::of)?;
    lease.execute(&statement, params).await.map_err(error::of)
}

/// What fails leaves the transaction open; the connection is closed then, which ends it.
pub(super) async fn set(
    lease: &Lease,
    changes: &[Change],
    at: Timestamp,
) -> Result<Vec<Campaign>, StoreError> {
    let changes = parts::in_order(changes)?;
    let ids: Vec<i64> = changes.iter().map(|change| change.campaign_id).collect();
    lease.batch_execute(BEGIN).await.map_err(error::of)?;
    execute(lease, CREATE, &[&ids]).await?;
    let rows = lease.rows(LOCK, &[&ids]).await?;
    let mut campaigns = Vec::with_capacity(changes.len());
    let (mut ids, mut versions, mut settings, mut secrets) = (vec![], vec![], vec![], vec![]);
    for (row, change) in rows.iter().zip(changes) {
        let before = campaign(row)?;
        let after = parts::apply(&before, change)?;
        if after.version > before.version {
            ids.push(after.campaign_id);
            versions.push(after.version);
            settings.push(parts::write_settings(&after.settings));
            let secret = after.secret.as_ref();
            secrets.push(secret.map(|secret| secret.expose().to_owned()));
        }
        campaigns.push(after);
    }
    if !ids.is_empty() {
        let set: [&(dyn ToSql + Sync); 4] = [&ids, &versions, &settings, &secrets];
        execute(lease, SET, &set).await?;
        let kept: [&(dyn ToSql + Sync); 5] = [&ids, &versions, &settings, &secrets, &at];
        execute(lease, KEEP, &kept).await?;
    }
    lease.batch_execute("COMMIT").await.map_err(error::of)?;
    Ok(campaigns)
}

pub(super) async fn publish(
    lease: &Lease,
    most: i64,
    sink: &dyn CampaignSink,
) -> Result<usize, StoreError> {
    lease.batch_execute(BEGIN).await.map_err(error::of)?;
    let rows = lease.rows(UNPUBLISHED, &[&most]).await?;
    let campaigns: Vec<Campaign> = rows.iter().map(campaign).collect::<Result<_, _>>()?;
    if !campaigns.is_empty() {
        sink.publish(&campaigns)
            .await
            .map_err(StoreError::Unpublished)?;
        let ids: Vec<i64> = campaigns.iter().map(|one| one.campaign_id).collect();
        execute(lease, PUBLISHED, &[&ids]).await?;
    }
    lease.batch_execute("COMMIT").await.map_err(error::of)?;
    Ok(campaigns.len())
}
