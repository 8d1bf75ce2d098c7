//! `postern token`: who may read what was recorded, and set campaigns.

use super::campaign::store;
use super::say;
use crate::cli::TokenArgs;
use crate::config::Settings;
use crate::random;
use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use postern_core::time;
use postern_runtime::settings::Span;
use postern_store::{AccessToken, Grant};

/// Bytes of the name of a token's owner, and of an advertiser.
const NAME_BYTES: usize = 255;
/// Campaigns of a token.
const MAX_CAMPAIGNS: usize = 1_000;

/// `postern token create`: shows a new token, this once.
pub async fn create(settings: &Settings, args: &TokenArgs) -> anyhow::Result<()> {
    let now = time::to_micros(Timestamp::now());
    let grant = grant(args)?;
    ensure!(
        is_text(&args.name),
        "--name: must be a text of at most {NAME_BYTES} bytes without control characters"
    );
    let expires_at = match &args.expires {
        Some(text) => Some(expiry(text, now).context("--expires")?),
        None => None,
    };
    let store = store(settings).await?;
    let token = postern_reports::token(&random::bytes()?);
    let (token_id, digest) = postern_reports::kept(&token);
    let kept = AccessToken {
        token_id,
        digest,
        grant,
        name: args.name.clone(),
        created_at: now,
        expires_at,
        revoked_at: None,
    };
    store
        .add_token(&kept)
        .await
        .context("the token could not be stored")?;
    say(&token);
    Ok(())
}

fn is_text(text: &str) -> bool {
    text.len() <= NAME_BYTES && !text.chars().any(char::is_control)
}

fn grant(args: &TokenArgs) -> anyhow::Result<Grant> {
    let grant = &args.grant;
    if let Some(advertiser) = &grant.advertiser {
        ensure!(
            is_text(advertiser) && !advertiser.trim().is_empty(),
            "--advertiser: must be a text of 1 to {NAME_BYTES} bytes without control characters"
        );
        return Ok(Grant::Advertiser(advertiser.clone()));
    }
    if grant.admin {
        return Ok(Grant::Admin);
    }
    let mut campaigns = grant.campaign.clone();
    campaigns.sort_unstable();
    campaigns.dedup();
    ensure!(
        campaigns.len() <= MAX_CAMPAIGNS,
        "--campaign: at most {MAX_CAMPAIGNS}; name their advertiser instead"
    );
    Ok(Grant::Campaigns(campaigns))
}

/// A time from now, a date, or a timestamp.
fn expiry(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let at = if let Ok(span) = text.parse::<Span>() {
        now.checked_add(span.0).ok()
    } else {
        let whole = format!("{text} 00:00:00");
        time::parse(text).or_else(|_| time::parse(&whole)).ok()
    };
    // What the store can hold.
    match at.and_then(|at| time::parse(&at.to_string()).ok()) {
        Some(at) if at > now => Ok(at),
        Some(_) => bail!("{text} has passed"),
        None => bail!("must be a time from now (90d), a date (2027-06-30) or a timestamp"),
    }
}

/// `postern token list`.
pub async fn list(settings: &Settings) -> anyhow::Result<()> {
    let now = Timestamp::now();
    for token in store(settings).await?.tokens().await? {
        say(&line(&token, now));
    }
    Ok(())
}

/// `postern token revoke`.
pub async fn revoke(settings: &Settings, id: &str) -> anyhow::Result<()> {
    let now = time::to_micros(Timestamp::now());
    let store = store(settings).await?;
    match store.revoke_token(id, now).await? {
        Some(token) => say(&line(&token, now)),
        None => bail!("no token has the id {id:?}: postern token list tells them"),
    }
    Ok(())
}

fn line(token: &AccessToken, now: Timestamp) -> String {
    let grant = match &token.grant {
        Grant::Admin => "admin".to_owned(),
        Grant::Advertiser(advertiser) => format!("advertiser={advertiser}"),
        Grant::Campaigns(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("campaigns={}", ids.join(","))
        }
    };
    let state = match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {}", time::api(at)),
        (None, Some(at)) if at <= now => format!("expired {}", time::api(at)),
        (None, Some(at)) => format!("until {}", time::api(at)),
        (None, None) => "valid".to_owned(),
    };
    let made = time::api(token.created_at);
    format!(
        "{}\t{grant}\t{state}\t{made}\t{}",
        token.token_id, token.name
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn tokens_expire_at_a_time_to_come() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let at = |text: &str| expiry(text, now).map(|at| at.to_string());
        assert_eq!(at("90d").unwrap(), "2027-02-21T10:00:00Z");
        assert_eq!(at("2027-06-30").unwrap(), "2027-06-30T00:00:00Z");
        assert_eq!(
            at("2026-11-23T11:00:00+00:30").unwrap(),
            "2026-11-23T10:30:00Z"
        );
        for text in ["", "soon", "2026-11-23", "0s", "-1d", "999999999d"] {
            assert!(at(text).is_err(), "{text}");
        }
    }
}
