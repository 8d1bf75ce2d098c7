//! `GET /v1/postback/status`: what became of a postback.
//!
//! The log tells of every postback that was decided or refused. One that isn't there is pending
//! where it may still be on its way: it is young enough to be in transit, or the consumer
//! hasn't read everything that stands on the topic. Otherwise its id is unknown.

use crate::routes::{Answer, Reports};
use hyper::StatusCode;
use jiff::Timestamp;
use postern_core::answer::{self, Body};
use postern_core::ids::RequestId;
use postern_core::request::query::parse_str;
use postern_kafka::{KafkaError, POSTBACKS, TopicAdmin};
use postern_runtime::telemetry::chain;
use postern_store::{Logged, LoggedState, StoreError};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("the look-up was cut short")]
    Cut,
}

impl Reports {
    pub(crate) async fn status(&self, query: &str) -> Answer {
        let parameters = parse_str(query.as_bytes());
        let Some(given) = parameters.get(b"request_id") else {
            return Answer::error(
                StatusCode::BAD_REQUEST,
                "missing_request_id",
                "request_id parameter is required",
            );
        };
        let Some(request_id) = std::str::from_utf8(given)
            .ok()
            .and_then(|text| RequestId::parse(text.trim()).ok())
        else {
            return Answer::error(
                StatusCode::BAD_REQUEST,
                "invalid_request_id",
                "request_id must be an id that an answer gave, like \
                 019abcde-0000-7000-8000-000000000000",
            );
        };
        match self.find(request_id).await {
            Ok(answer) => answer,
            Err(failed) => {
                let why = chain(&failed);
                tracing::error!(%request_id, why, "a status could not be told");
                Answer::unavailable()
            }
        }
    }

    async fn find(&self, request_id: RequestId) -> Result<Answer, Failed> {
        if let Some(logged) = self.store.logged(request_id).await? {
            return Ok(final_answer(request_id, &logged));
        }
        if !self.may_be_on_its_way(request_id).await? {
            return Ok(unknown());
        }
        // It may have been decided while Kafka was asked.
        Ok(match self.store.logged(request_id).await? {
            Some(logged) => final_answer(request_id, &logged),
            None => pending(request_id),
        })
    }

    async fn may_be_on_its_way(&self, request_id: RequestId) -> Result<bool, Failed> {
        let Some(minted) = minted_at(request_id) else {
            return Ok(false);
        };
        let age = Timestamp::now().duration_since(minted);
        let Ok(age) = Duration::try_from(age) else {
            // Minted in the future: at most by a clock that runs a little ahead.
            return Ok(age > jiff::SignedDuration::from_mins(-1));
        };
        if age <= self.config.in_transit {
            return Ok(true);
        }
        if age > self.config.postbacks_retention {
            return Ok(false);
        }
        self.is_behind().await
    }

    /// Whether any postback stands on the topic that isn't decided yet.
    async fn is_behind(&self) -> Result<bool, Failed> {
        let _permit = self.lookups.acquire().await.map_err(|_| Failed::Cut)?;
        let topics: Arc<TopicAdmin> = self.topics.clone();
        let ends = tokio::task::spawn_blocking(move || topics.ends(POSTBACKS))
            .await
            .map_err(|_| Failed::Cut)??;
        let partitions: Vec<i32> = ends.iter().map(|end| end.partition).collect();
        let rows = self.store.partitions(&partitions).await?;
        Ok(ends.iter().any(|end| {
            let position = rows
                .iter()
                .find(|row| row.partition == end.partition)
                .map_or(0, |row| row.postbacks);
            end.end > position
        }))
    }
}

/// The time in a UUIDv7; `None` for another kind of id, which no ingress mints.
fn minted_at(request_id: RequestId) -> Option<Timestamp> {
    let (seconds, nanos) = request_id.as_uuid().get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
}

fn final_answer(request_id: RequestId, logged: &Logged) -> Answer {
    let (outcome, inner) = match &logged.state {
        LoggedState::Decided {
            clickid,
            warnings,
            known,
        } => (
            known.outcome.word(),
            answer::of(&known.outcome, clickid, warnings),
        ),
        LoggedState::Refused { reason, message } => ("refused", answer::error(reason, message)),
    };
    Answer::json(
        StatusCode::OK,
        Body::new("ok")
            .text("request_id", &request_id.to_string())
            .text("received_at", &postern_core::time::api(logged.received_at))
            .text("outcome", outcome)
            .raw("answer", &inner)
            .finish(),
        "final",
    )
}

fn pending(request_id: RequestId) -> Answer {
    Answer::json(
        StatusCode::OK,
        Body::new("ok")
            .text("request_id", &request_id.to_string())
            .text("outcome", "pending")
            .finish(),
        "pending",
    )
}

fn unknown() -> Answer {
    Answer::error(
        StatusCode::NOT_FOUND,
        "request_not_found",
        "No postback with this request_id is known. One that was answered queued while Kafka was \
         away is known as soon as its ingress has handed it on",
    )
}
