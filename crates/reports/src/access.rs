//! Who may see what. A token is 32 random bytes behind `pst_`; the store keeps its digest alone,
//! so nobody who reads the store can use it.
//!
//! Whatever is wrong with a token, the answer is the same: it doesn't tell whether a token was
//! ever known.

use crate::routes::{Answer, Call, Reports};
use hyper::StatusCode;
use postern_runtime::http::{address, bearer, same};
use postern_runtime::telemetry::chain;
use postern_store::reading::Campaigns;
use postern_store::{AccessToken, Grant};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What every token begins with: people and scanners of leaked secrets know it by that.
const PREFIX: &str = "pst_";
/// Characters of a digest that name its token. 48 bits: who knows them is no nearer to the token.
const ID_CHARS: usize = 12;
/// For so long failures are counted, and an address that had too many is refused.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that failures are counted of at one time.
const MAX_ADDRESSES: usize = 65_536;

/// A token made of random bytes.
#[must_use]
pub fn token(random: &[u8; 32]) -> String {
    format!("{PREFIX}{}", hex::encode(random))
}

/// What the store keeps of a token: what names it, and its digest.
#[must_use]
pub fn kept(token: &str) -> (String, String) {
    let digest = hex::encode(Sha256::digest(token));
    (digest[..ID_CHARS].to_owned(), digest)
}

/// What a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everything, and change it.
    Admin,
    /// What belongs to these campaigns.
    Campaigns(Vec<i64>),
}

impl Access {
    /// What of it a question is about that may name one campaign. One that may not be seen is as
    /// one that doesn't exist.
    pub(crate) fn of(&self, asked: Option<i64>) -> Campaigns {
        match (self, asked) {
            (Self::Admin, None) => Campaigns::All,
            (Self::Admin, Some(id)) => Campaigns::Only(vec![id]),
            (Self::Campaigns(ids), None) => Campaigns::Only(ids.clone()),
            (Self::Campaigns(ids), Some(id)) => {
                Campaigns::Only(ids.iter().copied().filter(|own| *own == id).collect())
            }
        }
    }
}

impl Reports {
    /// What the caller may see: by the header, else by the parameter.
    pub(crate) async fn admit(
        &self,
        call: &Call,
        parameter: Option<&str>,
    ) -> Result<Access, Answer> {
        let Some(given) = bearer(&call.headers).or(parameter) else {
            return Err(refused());
        };
        let from = address::network(call.address);
        if self.failures.blocked(from, Instant::now()) {
            return Err(Answer::error(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_attempts",
                "Too many wrong tokens came from your address: wait a minute",
            ));
        }
        let failed = || {
            self.failures.failed(from, Instant::now());
            refused()
        };
        // What is no token costs no look into the store.
        if !given.starts_with(PREFIX) {
            return Err(failed());
        }
        let (token_id, digest) = kept(given);
        let unavailable = |error| {
            tracing::error!(why = chain(&error), "a token could not be looked up");
            Answer::unavailable()
        };
        let found = self.store.token(&token_id).await.map_err(unavailable)?;
        let Some(token) = found.filter(|token| is_worth(token, &digest)) else {
            return Err(failed());
        };
        Ok(match token.grant {
            Grant::Admin => Access::Admin,
            Grant::Campaigns(ids) => Access::Campaigns(ids),
            Grant::Advertiser(advertiser) => {
                let campaigns = self.store.advertiser_campaigns(&advertiser).await;
                Access::Campaigns(campaigns.map_err(unavailable)?)
            }
        })
    }

    /// Lets an admin pass.
    pub(crate) async fn admit_admin(
        &self,
        call: &Call,
        parameter: Option<&str>,
    ) -> Result<(), Answer> {
        match self.admit(call, parameter).await? {
            Access::Admin => Ok(()),
            Access::Campaigns(_) => Err(Answer::error(
                StatusCode::FORBIDDEN,
                "forbidden",
                "Only an admin token may do this",
            )),
        }
    }
}

fn is_worth(token: &AccessToken, digest: &str) -> bool {
    same(token.digest.as_bytes(), digest.as_bytes())
        && token.revoked_at.is_none()
        && token
            .expires_at
            .is_none_or(|end| jiff::Timestamp::now() < end)
}

fn refused() -> Answer {
    Answer::error(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Send a valid token as Authorization: Bearer or as token=; postern token create makes one",
    )
}

/// Wrong tokens per address, counted from the first on for a minute.
pub(crate) struct Failures {
    most: u32,
    counts: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Failures {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            counts: Mutex::default(),
        }
    }

    fn blocked(&self, address: IpAddr, now: Instant) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&address).is_some_and(|(count, since)| {
            *count >= self.most && now.saturating_duration_since(*since) < WINDOW
        })
    }

    fn failed(&self, address: IpAddr, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if counts.len() >= MAX_ADDRESSES && !counts.contains_key(&address) {
            counts.retain(|_, (_, since)| !passed(*since));
            // Nobody has so many addresses but an attacker: then none is remembered.
            if counts.len() >= MAX_ADDRESSES {
                counts.clear();
            }
        }
        let (count, since) = counts.entry(address).or_insert((0, now));
        if passed(*since) {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_256_random_bits_and_what_is_kept_tells_none() {
        let one = token(&[7; 32]);
        assert_eq!(one.len(), PREFIX.len() + 64);
        assert!(one.starts_with("pst_0707"));
        let (id, digest) = kept(&one);
        assert_eq!((id.len(), digest.len()), (12, 64));
        assert!(digest.starts_with(&id));
        assert_ne!(digest, kept(&token(&[8; 32])).1);
    }

    #[test]
    fn who_may_see_less_asks_for_less() {
        let own = Access::Campaigns(vec![1, 2]);
        assert_eq!(own.of(None), Campaigns::Only(vec![1, 2]));
        assert_eq!(own.of(Some(2)), Campaigns::Only(vec![2]));
        assert!(own.of(Some(3)).is_none());
        assert!(Access::Campaigns(Vec::new()).of(None).is_none());
        assert_eq!(Access::Admin.of(None), Campaigns::All);
        assert_eq!(Access::Admin.of(Some(3)), Campaigns::Only(vec![3]));
    }

    #[test]
    fn failures_block_an_address_for_a_minute() {
        let failures = Failures::new(2);
        let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let start = Instant::now();
        failures.failed(here, start);
        assert!(!failures.blocked(here, start));
        failures.failed(here, start);
        assert!(failures.blocked(here, start) && !failures.blocked(there, start));
        assert!(!failures.blocked(here, start + WINDOW));
        failures.failed(here, start + WINDOW);
        assert!(!failures.blocked(here, start + WINDOW));
    }

    #[test]
    fn addresses_that_are_remembered_are_bounded() {
        let failures = Failures::new(1);
        let start = Instant::now();
        for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() + 10 {
            failures.failed(std::net::Ipv4Addr::from(number).into(), start);
        }
        assert!(failures.counts.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
