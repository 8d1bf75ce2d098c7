//! `GET` and `PUT /v1/campaigns/{id}`: a campaign's settings, for admins.

use crate::parameters::Parameters;
use crate::routes::{Answer, Call, Reports};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use postern_core::answer::Body;
use postern_core::campaign::{Campaign, Change, FieldError};
use postern_runtime::http::read_body;
use postern_runtime::telemetry::chain;
use postern_store::StoreError;
use serde_json::{Map, Value};

/// The id in a path behind `/v1/campaigns/`; `None` where there is none.
pub(crate) fn id_of(path: &str) -> Option<i64> {
    let id = path.strip_prefix("/v1/campaigns/")?;
    // "007" and "+7" would be other names of one campaign.
    let canonical = id.bytes().all(|byte| byte.is_ascii_digit()) && !id.starts_with('0');
    canonical.then(|| id.parse().ok()).flatten()
}

impl Reports {
    pub(crate) async fn campaign(
        &self,
        call: &Call,
        id: Option<i64>,
        request: Request<Incoming>,
    ) -> Answer {
        let mut parameters = Parameters::read(request.uri().query().unwrap_or_default());
        let token = parameters.text("token");
        if request.method() == Method::PUT {
            if let Err(answer) = self.admit_admin(call, token.as_deref()).await {
                return answer;
            }
            return match id {
                Some(id) => self.set(id, request).await,
                None => no_campaign(),
            };
        }
        match (self.admit(call, token.as_deref()).await, id) {
            (Err(answer), _) => answer,
            (_, None) => no_campaign(),
            // As if nobody had set it.
            (Ok(access), Some(id)) if access.of(Some(id)).is_none() => unset(),
            (Ok(_), Some(id)) => self.show(id).await,
        }
    }

    async fn show(&self, id: i64) -> Answer {
        match self.store.campaign(id).await {
            Ok(Some(campaign)) => shown(&campaign),
            Ok(None) => unset(),
            Err(error) => failed(id, &error),
        }
    }

    async fn set(&self, id: i64, request: Request<Incoming>) -> Answer {
        let config = &self.config;
        let body = read_body(request.into_body(), config.max_body, config.body_timeout).await;
        let body = match body {
            Ok(body) => body,
            Err(error) => return Answer::error(error.status(), error.code(), &error.to_string()),
        };
        let object: Map<String, Value> = match serde_json::from_slice(&body) {
            Ok(object) => object,
            Err(why) => {
                let message = format!("The body must be one JSON object: {why}");
                return Answer::error(StatusCode::BAD_REQUEST, "malformed_json", &message);
            }
        };
        let change = match Change::read(&object, Some(id)) {
            Ok(change) => change,
            Err(error) => return invalid(&error),
        };
        let set = self
            .store
            .set_campaigns(&[change], jiff::Timestamp::now())
            .await;
        match set {
            Ok(campaigns) => {
                self.changed.notify_one();
                match campaigns.first() {
                    Some(campaign) => {
                        tracing::info!(
                            campaign_id = id,
                            version = campaign.version,
                            "a campaign was set"
                        );
                        shown(campaign)
                    }
                    None => Answer::unavailable(),
                }
            }
            Err(StoreError::Conflict { version, .. }) => Answer::error(
                StatusCode::CONFLICT,
                "version_conflict",
                &format!("The campaign is at version {version} now: read it and change that"),
            ),
            Err(error) => failed(id, &error),
        }
    }
}

fn shown(campaign: &Campaign) -> Answer {
    let json = Value::Object(campaign.to_json()).to_string();
    Answer::json(
        StatusCode::OK,
        Body::new("ok").raw("campaign", json.as_bytes()).finish(),
        "ok",
    )
}

fn unset() -> Answer {
    not_found("Nobody set this campaign: it goes by the defaults")
}

fn no_campaign() -> Answer {
    not_found("The path names no campaign: an integer above 0 is one")
}

fn not_found(message: &str) -> Answer {
    Answer::error(StatusCode::NOT_FOUND, "campaign_not_found", message)
}

fn invalid(error: &FieldError) -> Answer {
    Answer::json(
        StatusCode::BAD_REQUEST,
        Body::new("error")
            .text("error", "invalid_campaign")
            .text("message", &error.to_string())
            .text("field", &error.field)
            .finish(),
        "invalid_campaign",
    )
}

fn failed(id: i64, error: &StoreError) -> Answer {
    tracing::error!(
        campaign_id = id,
        why = chain(error),
        "a campaign could not be reached"
    );
    Answer::unavailable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_has_one_path() {
        assert_eq!(id_of("/v1/campaigns/18"), Some(18));
        for path in [
            "",
            "0",
            "018",
            "+1",
            "-1",
            "1/",
            "a",
            "99999999999999999999",
        ] {
            assert_eq!(id_of(&format!("/v1/campaigns/{path}")), None, "{path}");
        }
    }
}
