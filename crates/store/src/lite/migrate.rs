//! Migrations, one transaction each; the file's write lock keeps two at once apart.

use super::lane::Session;
use crate::{Migrated, StoreError, migrations};
use libsql::Value;

pub(super) fn migrate(session: &Session) -> Result<Vec<Migrated>, StoreError> {
    let mut done = Vec::new();
    loop {
        let step = session.transaction(|| {
            session.script(
                "CREATE TABLE IF NOT EXISTS schema_migrations (
                     number     INTEGER PRIMARY KEY,
                     name       TEXT NOT NULL,
                     applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
                 ) STRICT",
            )?;
            let Some(migration) = migrations::next(applied(session)?)? else {
                return Ok(None);
            };
            session.script(migration.sqlite)?;
            session.each(
                "INSERT INTO schema_migrations (number, name) VALUES (?1, ?2)",
                [vec![
                    Value::from(migration.number),
                    Value::from(migration.name),
                ]],
            )?;
            Ok(Some(Migrated::from(migration)))
        })?;
        match step {
            Some(migrated) => done.push(migrated),
            None => return Ok(done),
        }
    }
}

pub(super) fn check(session: &Session) -> Result<(), StoreError> {
    let exists = session.rows(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'",
        Vec::new(),
        |_| Ok(()),
    )?;
    let applied = if exists.is_empty() {
        None
    } else {
        applied(session)?
    };
    migrations::check(applied)
}

fn applied(session: &Session) -> Result<Option<i32>, StoreError> {
    let rows = session.rows(
        "SELECT max(number) FROM schema_migrations",
        Vec::new(),
        |columns| columns.maybe_integer(0),
    )?;
    let applied = rows.into_iter().next().flatten();
    Ok(applied.map(|number| i32::try_from(number).unwrap_or(i32::MAX)))
}
