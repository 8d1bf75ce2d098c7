//! What campaigns ask for, version by version, written anew here from docs/API.md: the rules that
//! what the product did is held against.

use super::evidence::{Postback, Said, Step, Store};
use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use serde_json::Value;
use sha2::Sha256;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;

/// One version of a campaign's settings.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// `click`, `txid` or `event`.
    pub dedupe: String,
    default_currency: String,
    /// Microseconds.
    window: Option<i64>,
    window_enforced: bool,
    networks: Vec<IpNet>,
    network_enforced: bool,
    secret: Secret,
    signature_enforced: bool,
    statuses: bool,
    default_status: String,
}

#[derive(Clone, Debug)]
enum Secret {
    None,
    /// There was one. The store doesn't keep it.
    Gone,
    Known(String),
}

/// What uniqueness knows of a conversion.
#[derive(Copy, Clone, Debug)]
pub(super) struct Keys<'a> {
    pub event: &'a str,
    pub external: &'a str,
    /// The dedupe policy that it was decided by.
    pub dedupe: &'a str,
}

impl Policy {
    fn read(settings: &Value, secret: Secret) -> Self {
        let text = |name: &str, default: &str| {
            let text = settings[name].as_str().unwrap_or(default);
            text.to_owned()
        };
        let enforced = |name: &str| text(name, "enforce") == "enforce";
        let networks = settings["networks"].as_array().map(Vec::as_slice);
        let network = |value: &Value| {
            let text = value.as_str()?;
            let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
            text.parse().ok().or_else(address)
        };
        Self {
            dedupe: text("dedupe", "click"),
            default_currency: text("default_currency", "USD"),
            window: settings["attribution_window"]
                .as_i64()
                .map(|seconds| seconds * 1_000_000),
            window_enforced: enforced("window_check"),
            networks: networks
                .unwrap_or_default()
                .iter()
                .filter_map(network)
                .collect(),
            network_enforced: enforced("network_check"),
            secret,
            signature_enforced: enforced("signature_check"),
            statuses: settings["statuses"].as_bool().unwrap_or(false),
            default_status: text("default_status", "approved"),
        }
    }

    /// Why the postback is forbidden, and what would forbid it but is only observed. Address
    /// before signature. `step` is what the log says: where the secret isn't kept, it is believed
    /// about a signature.
    pub fn callers(
        &self,
        postback: &Postback,
        step: Option<&Step>,
    ) -> (Option<&'static str>, Vec<&'static str>) {
        let mut observed = Vec::new();
        let found = [
            (self.network_enforced, self.stranger(postback)),
            (self.signature_enforced, self.unsigned(postback, step)),
        ];
        for (enforced, found) in found {
            match found {
                Some(why) if enforced => return (Some(why), observed),
                Some(why) => observed.push(why),
                None => {}
            }
        }
        (None, observed)
    }

    fn stranger(&self, postback: &Postback) -> Option<&'static str> {
        let address = postback.address.parse::<IpAddr>().ok();
        let address = address.map(|address| address.to_canonical());
        let inside = self.networks.is_empty()
            || address
                .is_some_and(|address| self.networks.iter().any(|one| one.contains(&address)));
        (!inside).then_some("address")
    }

    fn unsigned(&self, postback: &Postback, step: Option<&Step>) -> Option<&'static str> {
        const WRONG: &str = "signature_wrong";
        let signature = match (&self.secret, &postback.signature) {
            (Secret::None, _) => return None,
            (_, None) => return Some("signature_missing"),
            (_, Some(signature)) => signature,
        };
        let right = match &self.secret {
            Secret::Known(secret) => {
                !signature.query.is_empty()
                    && signature.sig.to_ascii_lowercase() == sign(secret, &signature.query)
            }
            _ => !step.is_some_and(|step| {
                let observed = step.observed.as_deref().unwrap_or_default();
                step.why.as_deref() == Some(WRONG) || observed.split(',').any(|one| one == WRONG)
            }),
        };
        (!right).then_some(WRONG)
    }

    /// Whether the postback came too late after its click, and whether that counts.
    pub fn late(&self, postback: &Postback, clicked_at: i64) -> (bool, bool) {
        let age = postback.received_at - clicked_at;
        let late = self.window.is_some_and(|window| age > window);
        (late, self.window_enforced)
    }

    /// Whether a postback with this event and external id is about that conversion. What the
    /// conversion doesn't name, and its policy didn't ask for, may have been anything.
    pub fn is_same(&self, held: Keys<'_>, event: &str, external: &str) -> bool {
        let any_external = held.external.is_empty() && held.dedupe == "click";
        let any_event = held.event.is_empty() && held.dedupe != "event";
        let same_external = held.external == external || any_external;
        let same_event = held.event == event || any_event;
        match self.dedupe.as_str() {
            "event" => same_external && same_event,
            "txid" => same_external,
            _ => true,
        }
    }

    /// The status that a postback speaks of; none where it says nothing, or nothing that counts.
    pub fn said<'s>(&'s self, said: Option<&'s Said>) -> Option<&'s str> {
        let said = said.filter(|_| self.statuses)?;
        Some(said.status.as_deref().unwrap_or(&self.default_status))
    }

    /// The status that a conversion comes with.
    pub fn first_status<'s>(&'s self, postback: &'s Postback) -> &'s str {
        match self.said(postback.said.as_ref()) {
            Some(status) => status,
            None if self.statuses => &self.default_status,
            None => "approved",
        }
    }

    /// The currency of a conversion.
    pub fn currency<'s>(&'s self, postback: &'s Postback) -> &'s str {
        if postback.currency_sent {
            &postback.currency
        } else {
            &self.default_currency
        }
    }
}

/// Hexadecimal HMAC-SHA256.
pub(crate) fn sign(secret: &str, query: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.update(query.as_bytes());
    let mut sig = String::new();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(sig, "{byte:02x}");
    }
    sig
}

/// All versions of all campaigns.
pub(super) struct Policies {
    versions: HashMap<(i64, i64), Policy>,
    present: HashMap<i64, i64>,
    unset: Policy,
}

impl Policies {
    pub fn new(store: &Store) -> Self {
        let mut policies = Self {
            versions: HashMap::new(),
            present: HashMap::new(),
            unset: Policy::read(&Value::Null, Secret::None),
        };
        let mut secrets = HashMap::new();
        for campaign in &store.campaigns {
            let id = campaign.campaign_id;
            policies.present.insert(id, campaign.version);
            let secret = match &campaign.secret {
                None => Secret::None,
                Some(secret) => {
                    secrets.insert(id, secret);
                    Secret::Known(secret.clone())
                }
            };
            let policy = Policy::read(&campaign.settings, secret);
            policies.versions.insert((id, campaign.version), policy);
        }
        for version in &store.versions {
            let key = (version.campaign_id, version.version);
            // The present secret is taken for that of all versions that had one.
            let secret = match secrets.get(&version.campaign_id) {
                _ if !version.secret_set => Secret::None,
                None => Secret::Gone,
                Some(secret) => Secret::Known((*secret).clone()),
            };
            let policy = Policy::read(&version.settings, secret);
            policies.versions.entry(key).or_insert(policy);
        }
        policies
    }

    /// A version that there is, or was: 0 until somebody set the campaign.
    pub fn get(&self, campaign_id: i64, version: i64) -> Option<&Policy> {
        match version {
            0 => Some(&self.unset),
            version => self.versions.get(&(campaign_id, version)),
        }
    }

    /// That version; for one that never was, or where none is known, the present one.
    pub fn of(&self, campaign_id: i64, version: Option<i64>) -> &Policy {
        let present = || self.present.get(&campaign_id).copied().unwrap_or(0);
        let given = version.and_then(|version| self.get(campaign_id, version));
        given
            .or_else(|| self.get(campaign_id, present()))
            .unwrap_or(&self.unset)
    }
}
