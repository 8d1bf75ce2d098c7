//! Settings as JSON: what the API takes and gives, what an import file holds a line of, and what
//! the store keeps.

use super::{Activity, Campaign, Dedupe, Mode, PostbackSecret, Settings, TrackingUrl};
use crate::currency::Currency;
use crate::status::Status;
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Bytes of an advertiser's and of a campaign's name.
const NAME_BYTES: usize = 255;
/// Networks of one campaign.
const NETWORKS: usize = 256;
/// Ten years in seconds: the longest attribution window.
const LONGEST_WINDOW: u32 = 10 * 365 * 24 * 60 * 60;

/// A field that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Its name, as in the JSON.
    pub field: String,
    /// What is wrong with it, and what to write.
    pub message: String,
}

impl FieldError {
    /// An error of `field`.
    #[must_use]
    pub fn new(field: &str, message: impl std::fmt::Display) -> Self {
        Self {
            field: shortened(field),
            message: message.to_string(),
        }
    }
}

/// What becomes of a campaign's secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretChange {
    /// It stays.
    #[default]
    Keep,
    /// This one takes its place.
    Set(PostbackSecret),
    /// Postbacks need not be signed any more.
    Remove,
}

/// A campaign's settings as somebody wants them to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which campaign.
    pub campaign_id: i64,
    /// All settings; those that weren't named have their defaults.
    pub settings: Settings,
    /// Its secret.
    pub secret: SecretChange,
    /// The version that is changed, where that matters: another one means that somebody else was
    /// faster.
    pub expected: Option<i64>,
}

impl Change {
    /// Reads an object. `campaign_id` may be left out where `path` gives it, and must not differ
    /// from it.
    ///
    /// # Errors
    ///
    /// The first field that is wrong. An unknown one is wrong: it would be a setting that isn't
    /// set.
    pub fn read(object: &Map<String, Value>, path: Option<i64>) -> Result<Self, FieldError> {
        for name in object.keys() {
            if !Settings::NAMES.contains(&name.as_str()) && !FRAME.contains(&name.as_str()) {
                return Err(FieldError::new(name, "is not a setting"));
            }
        }
        let given = match object.get("campaign_id") {
            None => None,
            Some(value) => Some(value.as_i64().ok_or_else(bad_id)?),
        };
        let campaign_id = match (given, path) {
            (Some(given), Some(path)) if given != path => {
                let message = format!("is {given}, but the path names {path}");
                return Err(FieldError::new("campaign_id", message));
            }
            (given, path) => given
                .or(path)
                .ok_or_else(|| FieldError::new("campaign_id", "is missing"))?,
        };
        if campaign_id < 1 {
            return Err(bad_id());
        }
        let secret = match object.get("secret") {
            None => SecretChange::Keep,
            Some(Value::Null) => SecretChange::Remove,
            Some(value) => value
                .as_str()
                .and_then(|text| PostbackSecret::parse(text).ok())
                .map(SecretChange::Set)
                .ok_or_else(|| FieldError::new("secret", super::SecretError))?,
        };
        let expected =
            match object.get("version") {
                None => None,
                Some(value) => Some(value.as_i64().filter(|version| *version >= 0).ok_or_else(
                    || FieldError::new("version", "must be a version that was read"),
                )?),
            };
        Ok(Self {
            campaign_id,
            settings: Settings::read(object)?,
            secret,
            expected,
        })
    }
}

/// What stands beside the settings. `secret_set` is what a campaign that was read says of its
/// secret: it may be sent back as it came.
const FRAME: [&str; 4] = ["campaign_id", "version", "secret", "secret_set"];

/// As much of somebody's text as is needed to find it again.
fn shortened(text: &str) -> String {
    const CHARACTERS: usize = 80;
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn bad_id() -> FieldError {
    FieldError::new("campaign_id", "must be an integer above 0")
}

impl Settings {
    const NAMES: [&'static str; 13] = [
        "advertiser",
        "name",
        "status",
        "tracking_url",
        "default_currency",
        "dedupe",
        "attribution_window",
        "window_check",
        "networks",
        "network_check",
        "signature_check",
        "statuses",
        "default_status",
    ];

    /// Reads settings; names that are none are left alone, so that what a later release stored
    /// can be read.
    ///
    /// # Errors
    ///
    /// The first field that is wrong.
    pub fn read(object: &Map<String, Value>) -> Result<Self, FieldError> {
        let default = Self::default();
        let field = |name| Field {
            name,
            value: object.get(name).filter(|value| !value.is_null()),
        };
        Ok(Self {
            advertiser: field("advertiser").label()?,
            name: field("name").label()?,
            status: field("status").word(Activity::of, "active, paused or closed")?,
            tracking_url: field("tracking_url").read("a URL", |value| {
                Some(TrackingUrl::parse(value.as_str()?).map_err(|why| why.to_string()))
            })?,
            default_currency: field("default_currency")
                .read("three letters", |value| {
                    let text = value.as_str()?;
                    let valid = text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic());
                    valid.then(|| Ok(Currency::normalize(text)))
                })?
                .unwrap_or_default(),
            dedupe: field("dedupe").word(Dedupe::of, "click, txid or event")?,
            attribution_window: field("attribution_window").read(
                "seconds, from 1 to 315360000 (ten years)",
                |value| {
                    let seconds = u32::try_from(value.as_u64()?).ok()?;
                    (1..=LONGEST_WINDOW)
                        .contains(&seconds)
                        .then_some(Ok(seconds))
                },
            )?,
            window_check: field("window_check").mode()?,
            networks: field("networks").networks()?,
            network_check: field("network_check").mode()?,
            signature_check: field("signature_check").mode()?,
            statuses: field("statuses")
                .read("true or false", |value| value.as_bool().map(Ok))?
                .unwrap_or(default.statuses),
            default_status: field("default_status").word(
                |word| word.parse::<Status>().ok(),
                "approved, pending, rejected or reversed",
            )?,
        })
    }

    /// As an object, every field named.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let networks: Vec<String> = self.networks.iter().map(IpNet::to_string).collect();
        let value = json!({
            "advertiser": self.advertiser,
            "name": self.name,
            "status": self.status,
            "tracking_url": self.tracking_url.as_ref().map(TrackingUrl::as_str),
            "default_currency": self.default_currency,
            "dedupe": self.dedupe,
            "attribution_window": self.attribution_window,
            "window_check": self.window_check,
            "networks": networks,
            "network_check": self.network_check,
            "signature_check": self.signature_check,
            "statuses": self.statuses,
            "default_status": self.default_status,
        });
        match value {
            Value::Object(object) => object,
            _ => Map::new(),
        }
    }
}

impl Campaign {
    /// As an object: what the API and the command line show. The secret is not in it.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = self.settings.to_json();
        object.insert("campaign_id".to_owned(), self.campaign_id.into());
        object.insert("version".to_owned(), self.version.into());
        object.insert("secret_set".to_owned(), self.secret.is_some().into());
        object
    }

    /// Reads what the store keeps: the settings' JSON and the secret beside it.
    ///
    /// # Errors
    ///
    /// The field that can't be read.
    pub fn stored(
        campaign_id: i64,
        version: i64,
        settings: &str,
        secret: Option<&str>,
    ) -> Result<Self, FieldError> {
        let object: Map<String, Value> =
            serde_json::from_str(settings).map_err(|why| FieldError::new("settings", why))?;
        Ok(Self {
            campaign_id,
            version,
            settings: Settings::read(&object)?,
            secret: secret
                .map(PostbackSecret::parse)
                .transpose()
                .map_err(|why| FieldError::new("secret", why))?,
        })
    }
}

/// A network, or an address that stands for itself.
///
/// # Errors
///
/// A sentence that quotes the text.
pub fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map(|network| canonical(network.trunc()))
        .map_err(|_| {
            let text = shortened(text);
            format!("{text:?} is neither an address nor a network like 192.0.2.0/24")
        })
}

/// IPv4 in IPv6's clothes is IPv4, as callers' addresses are.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    if let IpAddr::V4(address) = network.addr().to_canonical()
        && let Some(prefix) = network.prefix_len().checked_sub(MAPPED)
        && network.addr().is_ipv6()
        && let Ok(network) = Ipv4Net::new(address, prefix)
    {
        return IpNet::V4(network);
    }
    network
}

struct Field<'a> {
    name: &'static str,
    value: Option<&'a Value>,
}

impl Field<'_> {
    /// `read` gives `None` where the value isn't what is `wanted` at all, and an error where a
    /// sentence can say more.
    fn read<T>(
        &self,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<Result<T, String>>,
    ) -> Result<Option<T>, FieldError> {
        let Some(value) = self.value else {
            return Ok(None);
        };
        match read(value) {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(message)) => Err(FieldError::new(self.name, message)),
            None => {
                let shown = shortened(&value.to_string());
                let message = format!("{shown} can't be used: must be {wanted}");
                Err(FieldError::new(self.name, message))
            }
        }
    }

    fn label(&self) -> Result<String, FieldError> {
        let wanted = "a text of at most 255 bytes without control characters";
        let label = self.read(wanted, |value| {
            let text = value.as_str()?.trim();
            let valid = text.len() <= NAME_BYTES && !text.chars().any(char::is_control);
            valid.then(|| Ok(text.to_owned()))
        })?;
        Ok(label.unwrap_or_default())
    }

    fn word<T: Default>(
        &self,
        of: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Result<T, FieldError> {
        let value = self.read(words, |value| of(value.as_str()?).map(Ok))?;
        Ok(value.unwrap_or_default())
    }

    fn mode(&self) -> Result<Mode, FieldError> {
        self.word(Mode::of, "enforce or observe")
    }

    fn networks(&self) -> Result<Vec<IpNet>, FieldError> {
        let wanted = "a list of at most 256 addresses and networks";
        let networks = self.read(wanted, |value| {
            let list = value.as_array().filter(|list| list.len() <= NETWORKS)?;
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            let networks: Result<Vec<IpNet>, String> = texts?.into_iter().map(network).collect();
            Some(networks.map(|mut networks| {
                networks.sort_unstable();
                networks.dedup();
                networks
            }))
        })?;
        Ok(networks.unwrap_or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_is_the_default() {
        assert_eq!(Settings::read(&Map::new()).unwrap(), Settings::default());
        let text = r#"{"advertiser":"Acme","name":"Spring","status":"paused",
            "tracking_url":"https://shop.example/?c={clickid}","default_currency":"eur",
            "dedupe":"event","attribution_window":86400,"window_check":"observe",
            "networks":["192.0.2.7/24","2001:db8::1","192.0.2.0/24"],"network_check":"observe",
            "signature_check":"observe","statuses":true,"default_status":"pending"}"#;
        let settings = Settings::read(&object(text)).unwrap();
        assert_eq!(settings.networks.len(), 2);
        assert_eq!(settings.default_currency.as_str(), "EUR");
        assert_eq!(settings.attribution_window, Some(86_400));
        assert_eq!(Settings::read(&settings.to_json()).unwrap(), settings);
        assert_eq!(
            settings.to_json().len(),
            Settings::NAMES.len(),
            "every name is written"
        );
        let kept = serde_json::to_string(&settings.to_json()).unwrap();
        let campaign = Campaign::stored(7, 3, &kept, Some("0123456789abcdef")).unwrap();
        assert_eq!((campaign.version, &campaign.settings), (3, &settings));
        let shown = serde_json::to_string(&campaign.to_json()).unwrap();
        assert!(shown.contains(r#""secret_set":true"#) && !shown.contains("0123456789"));
        // What was shown can be sent back.
        let change = Change::read(&campaign.to_json(), Some(7)).unwrap();
        assert_eq!(change.settings, settings);
        assert_eq!(
            (change.secret, change.expected),
            (SecretChange::Keep, Some(3))
        );
    }

    #[test]
    fn errors_name_the_field() {
        for (text, words) in [
            (r#"{"colour":1}"#, ["colour", "not a setting"]),
            (r#"{"name":5}"#, ["name", "255"]),
            (r#"{"status":"on"}"#, ["status", "paused"]),
            (r#"{"tracking_url":"ftp://x/"}"#, ["tracking_url", "http"]),
            (
                r#"{"tracking_url":"https://x/{who}"}"#,
                ["tracking_url", "who"],
            ),
            (
                r#"{"default_currency":"EURO"}"#,
                ["default_currency", "three"],
            ),
            (r#"{"dedupe":"all"}"#, ["dedupe", "event"]),
            (
                r#"{"attribution_window":0}"#,
                ["attribution_window", "seconds"],
            ),
            (
                r#"{"attribution_window":"30d"}"#,
                ["attribution_window", "seconds"],
            ),
            (
                r#"{"networks":["10.0.0.0/33"]}"#,
                ["networks", "10.0.0.0/33"],
            ),
            (r#"{"networks":"10.0.0.0/8"}"#, ["networks", "list"]),
            (r#"{"window_check":"off"}"#, ["window_check", "observe"]),
            (r#"{"statuses":"yes"}"#, ["statuses", "true"]),
            (
                r#"{"default_status":"good"}"#,
                ["default_status", "approved"],
            ),
            (r#"{"secret":"short"}"#, ["secret", "16"]),
            (r#"{"version":-1}"#, ["version", "read"]),
            (r#"{"campaign_id":0}"#, ["campaign_id", "above 0"]),
            (r#"{"campaign_id":8}"#, ["campaign_id", "path"]),
        ] {
            let path = (text != r#"{"campaign_id":0}"#).then_some(7);
            let error = Change::read(&object(text), path).unwrap_err();
            assert_eq!(error.field, words[0], "{text}");
            assert!(error.message.contains(words[1]), "{text}: {error}");
            assert!(!error.to_string().contains("short"), "a secret is shown");
        }
        let error = Change::read(&Map::new(), None).unwrap_err();
        assert!(error.to_string().contains("missing"));
    }

    #[test]
    fn networks_are_canonical_and_bad_ones_are_quoted_short() {
        for (text, expected) in [
            ("192.0.2.7", "192.0.2.7/32"),
            (" 192.0.2.7/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:db8::1", "2001:db8::1/128"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), expected, "{text}");
        }
        let error = network(&"é".repeat(5_000)).unwrap_err();
        assert!(error.len() < 300, "{error}");
        let error = FieldError::new(&"x".repeat(5_000), "is not a setting");
        assert!(error.to_string().len() < 150, "{error}");
    }

    #[test]
    fn a_secret_is_kept_set_or_removed() {
        let secret = |text| Change::read(&object(text), Some(1)).unwrap().secret;
        assert_eq!(secret("{}"), SecretChange::Keep);
        assert_eq!(secret(r#"{"secret":null}"#), SecretChange::Remove);
        let new = PostbackSecret::parse("0123456789abcdef").unwrap();
        assert_eq!(
            secret(r#"{"secret":"0123456789abcdef"}"#),
            SecretChange::Set(new)
        );
    }

    #[test]
    fn what_a_later_release_stored_can_be_read() {
        let campaign = Campaign::stored(1, 1, r#"{"dedupe":"txid","later":[]}"#, None).unwrap();
        assert_eq!(campaign.settings.dedupe, Dedupe::Txid);
        assert!(Campaign::stored(1, 1, "nothing", None).is_err());
    }
}
