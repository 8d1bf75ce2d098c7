//! From `store.url` to an engine.

use crate::lite::LiteStore;
use crate::observe::Observer;
use crate::postgres::{PostgresConfig, PostgresStore};
use crate::{Store, StoreError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What opening needs beside the URL.
#[derive(Copy, Clone, Debug)]
pub struct StoreOptions {
    /// Connections to PostgreSQL that are held at most, and as many again for what people ask.
    pub pool_size: usize,
    /// After this a question of people is given up.
    pub query_timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            pool_size: 4,
            query_timeout: Duration::from_secs(30),
        }
    }
}

/// Opens the store that `url` names: `postgres://…` or `postgresql://…`, or `sqlite:PATH`.
///
/// PostgreSQL isn't contacted yet. Must be called within a tokio runtime.
///
/// # Errors
///
/// [`StoreError::Config`] for a URL that can't be used, which is never quoted: it may hold a
/// password. [`StoreError::Unavailable`] where SQLite's file can't be opened.
pub fn open(url: &str, options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    open_observed(url, options, None)
}

/// The same, with somebody who hears of each call.
///
/// # Errors
///
/// As [`open`].
pub fn open_observed(
    url: &str,
    options: StoreOptions,
    observer: Option<Observer>,
) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Arc::new(LiteStore::open(
            Path::new(path),
            options.query_timeout,
            observer,
        )?));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let config = PostgresConfig {
            query_timeout: options.query_timeout,
            ..PostgresConfig::new(url, options.pool_size)
        };
        return Ok(Arc::new(PostgresStore::connect(config, observer)?));
    }
    Err(StoreError::Config(
        "store.url must start with postgres:// or sqlite:".to_owned(),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_scheme_picks_the_engine_and_nothing_is_quoted() {
        for url in [
            "mysql://postern:s3cret@db/postern",
            "/var/lib/postern/s3cret",
            "sqlite:",
            "sqlite::memory:",
            "postgres://postern:s3cret@db:x/postern",
        ] {
            let error = open(url, StoreOptions::default()).err().unwrap();
            assert!(matches!(error, StoreError::Config(_)), "{url}: {error:?}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        // Nobody is there; that isn't known yet.
        open(
            "postgresql://postern@127.0.0.1:1/postern",
            StoreOptions::default(),
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        open(
            &format!("sqlite:{}", path.display()),
            StoreOptions::default(),
        )
        .unwrap();
        open(
            &format!("sqlite://{}", path.display()),
            StoreOptions::default(),
        )
        .unwrap();
        let missing = format!("sqlite:{}/none/store.db", directory.path().display());
        assert!(
            open(&missing, StoreOptions::default())
                .err()
                .unwrap()
                .is_retriable()
        );
    }
}
