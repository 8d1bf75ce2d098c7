//! Migrations, one transaction each, under an advisory lock.

use super::connection::Lease;
use super::error;
use crate::{Migrated, StoreError, migrations};

/// The advisory lock's key: "postern" as a number.
const LOCK: &str = "SELECT pg_advisory_xact_lock(31646286867653230)";

/// Each transaction looks anew at what is applied: another process may have been at work while
/// this one waited for the lock. Waiting and migrating may take longer than a batch's statements.
pub(super) async fn migrate(lease: &Lease) -> Result<Vec<Migrated>, StoreError> {
    let mut done = Vec::new();
    loop {
        execute(
            lease,
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '10min'",
        )
        .await?;
        execute(lease, LOCK).await?;
        execute(
            lease,
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 number     integer PRIMARY KEY,
                 name       text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             )",
        )
        .await?;
        let Some(migration) = migrations::next(applied(lease).await?)? else {
            execute(lease, "COMMIT").await?;
            return Ok(done);
        };
        execute(lease, migration.postgres).await?;
        lease
            .execute(
                "INSERT INTO schema_migrations (number, name) VALUES ($1, $2)",
                &[&migration.number, &migration.name],
            )
            .await
            .map_err(error::of)?;
        execute(lease, "COMMIT").await?;
        done.push(Migrated::from(migration));
    }
}

pub(super) async fn check(lease: &Lease) -> Result<(), StoreError> {
    let exists = lease
        .query_one("SELECT to_regclass('schema_migrations') IS NOT NULL", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(error::of)?;
    let applied = if exists { applied(lease).await? } else { None };
    migrations::check(applied)
}

async fn applied(lease: &Lease) -> Result<Option<i32>, StoreError> {
    lease
        .query_one("SELECT max(number) FROM schema_migrations", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(error::of)
}

async fn execute(lease: &Lease, sql: &str) -> Result<(), StoreError> {
    lease.batch_execute(sql).await.map_err(error::of)
}
