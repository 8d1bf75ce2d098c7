//! Waiting for something to become true: by asking for it, never by guessing how long it takes.

use std::time::{Duration, Instant};

/// Long enough for a loaded machine whose disk stands still for some seconds, after which Kafka's
/// groups find together again; nothing waits it out unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks until there is an answer; panics with `what` after [`PATIENCE`].
pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask).await
}

/// Asks until there is an answer; panics with `what` after `limit`.
pub async fn within<T>(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
