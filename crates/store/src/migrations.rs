//! The migrations of both engines, and how an applied set compares with this release's.

use crate::{Migrated, StoreError};

/// A step of the schema. Never changed once released; what is wrong is put right by a later one.
pub(crate) struct Migration {
    pub(crate) number: i32,
    pub(crate) name: &'static str,
    pub(crate) postgres: &'static str,
    pub(crate) sqlite: &'static str,
}

/// All of them, ascending from 1 without gaps.
pub(crate) const ALL: &[Migration] = &[
    Migration {
        number: 1,
        name: "main_path",
        postgres: include_str!("../migrations/postgres/0001_main_path.sql"),
        sqlite: include_str!("../migrations/sqlite/0001_main_path.sql"),
    },
    Migration {
        number: 2,
        name: "campaigns",
        postgres: include_str!("../migrations/postgres/0002_campaigns.sql"),
        sqlite: include_str!("../migrations/sqlite/0002_campaigns.sql"),
    },
    Migration {
        number: 3,
        name: "reports",
        postgres: include_str!("../migrations/postgres/0003_reports.sql"),
        sqlite: include_str!("../migrations/sqlite/0003_reports.sql"),
    },
];

/// The first migration that `applied`, the highest number in the store, leaves to be done.
///
/// # Errors
///
/// [`StoreError::Schema`] where the store was migrated by a later release.
pub(crate) fn next(applied: Option<i32>) -> Result<Option<&'static Migration>, StoreError> {
    let applied = applied.unwrap_or(0);
    let newest = ALL.last().map_or(0, |migration| migration.number);
    if applied > newest {
        return Err(StoreError::Schema(format!(
            "the store's schema is at {applied}, this release knows it up to {newest}: run a \
             release that is as new as the one that migrated the store"
        )));
    }
    Ok(ALL.iter().find(|migration| migration.number > applied))
}

/// Whether the schema is this release's.
///
/// # Errors
///
/// [`StoreError::Schema`] where it is older or newer.
pub(crate) fn check(applied: Option<i32>) -> Result<(), StoreError> {
    match next(applied)? {
        None => Ok(()),
        Some(missing) => Err(StoreError::Schema(match applied {
            None => "the store has no schema yet: run postern migrate".to_owned(),
            Some(applied) => format!(
                "the store's schema is at {applied}, this release needs {} ({}): run postern \
                 migrate",
                missing.number, missing.name
            ),
        })),
    }
}

impl From<&Migration> for Migrated {
    fn from(migration: &Migration) -> Self {
        Self {
            number: migration.number,
            name: migration.name,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_from_one_without_gaps() {
        for (index, migration) in ALL.iter().enumerate() {
            assert_eq!(usize::try_from(migration.number).unwrap(), index + 1);
        }
    }

    #[test]
    fn older_and_newer_are_told_apart() {
        assert!(check(Some(ALL.last().unwrap().number)).is_ok());
        let missing = check(None).unwrap_err().to_string();
        assert!(missing.contains("postern migrate"), "{missing}");
        let newer = check(Some(1_000)).unwrap_err().to_string();
        assert!(newer.contains("1000"), "{newer}");
    }
}
