//! `GET` and `PUT /v1/campaigns/{id}`: a campaign's settings, for admins.

use crate::routes::{Answer, Reports};
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
    pub(crate) async fn campaign(&self, id: Option<i64>, request: Request<Incoming>) -> Answer {
        if let Err(answer) = self.admit_admin(request.headers()).await {
            return answer;
        }
        let Some(id) = id else {
            return not_found("The path names no campaign: an integer above 0 is one");
        };
        if request.method() == Method::PUT {
            self.set(id, request).await
        } else {
            self.show(id).await
        }
    }

    async fn show(&self, id: i64) -> Answer {
        match self.store.campaign(id).await {
            Ok(Some(campaign)) => shown(&campaign),
            Ok(None) => not_found("Nobody set this campaign: it goes by the defaults"),
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
    Answer {
        status: StatusCode::OK,
        body: Body::new("ok").raw("campaign", json.as_bytes()).finish(),
        outcome: "ok",
    }
}

fn not_found(message: &str) -> Answer {
    Answer::error(StatusCode::NOT_FOUND, "campaign_not_found", message)
}

fn invalid(error: &FieldError) -> Answer {
    Answer {
        status: StatusCode::BAD_REQUEST,
        body: Body::new("error")
            .text("error", "invalid_campaign")
            .text("message", &error.to_string())
            .text("field", &error.field)
            .finish(),
        outcome: "invalid_campaign",
    }
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
