//! From `store.url` to an engine.

use crate::lite::LiteStore;
use crate::postgres::{PostgresConfig, PostgresStore};
use crate::{Store, StoreError};
use std::path::Path;
use std::sync::Arc;

/// Opens the store that `url` names: `postgres://…` or `postgresql://…`, of which up to
/// `pool_size` connections are held, or `sqlite:PATH`, for which `pool_size` means nothing.
///
/// PostgreSQL isn't contacted yet. Must be called within a tokio runtime.
///
/// # Errors
///
/// [`StoreError::Config`] for a URL that can't be used, which is never quoted: it may hold a
/// password. [`StoreError::Unavailable`] where SQLite's file can't be opened.
pub fn open(url: &str, pool_size: usize) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Arc::new(LiteStore::open(Path::new(path))?));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let config = PostgresConfig::new(url, pool_size);
        return Ok(Arc::new(PostgresStore::connect(config)?));
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
            let error = open(url, 2).err().unwrap();
            assert!(matches!(error, StoreError::Config(_)), "{url}: {error:?}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        // Nobody is there; that isn't known yet.
        open("postgresql://postern@127.0.0.1:1/postern", 2).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        open(&format!("sqlite:{}", path.display()), 2).unwrap();
        open(&format!("sqlite://{}", path.display()), 2).unwrap();
        let missing = format!("sqlite:{}/none/store.db", directory.path().display());
        assert!(open(&missing, 2).err().unwrap().is_retriable());
    }
}
