//! `postern token`: who may set campaigns.

use super::campaign::store;
use super::say;
use crate::config::Settings;
use anyhow::{Context as _, ensure};
use postern_store::{AccessToken, TokenRole};

/// Bytes of the name of a token's owner.
const NAME_BYTES: usize = 255;

/// `postern token create --admin`: shows a new token, this once.
pub async fn create(settings: &Settings, name: &str) -> anyhow::Result<()> {
    ensure!(
        name.len() <= NAME_BYTES && !name.chars().any(char::is_control),
        "--name: must be a text of at most {NAME_BYTES} bytes without control characters"
    );
    let store = store(settings).await?;
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
