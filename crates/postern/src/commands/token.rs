//! `postern token`: who may set campaigns.

use super::say;
use crate::config::Settings;
use crate::roles::consumer::open_store;
use anyhow::Context as _;
use postern_store::{AccessToken, TokenRole};

/// `postern token create --admin`: shows a new token, this once.
pub async fn create(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let store = open_store(settings)?;
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("no random bytes for a token: {error}"))?;
    let token = postern_reports::token(&random);
    let kept = AccessToken {
        digest: postern_reports::digest(&token),
        role: TokenRole::Admin,
        name: name.to_owned(),
        created_at: jiff::Timestamp::now(),
    };
    store
        .add_token(&kept)
        .await
        .context("the token could not be stored")?;
    say(&token);
    Ok(())
}
