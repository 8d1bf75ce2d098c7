//! A question as it is asked over HTTP, and the conversions that are its answer.

use super::zone::Zone;
use super::{Click, Conversion, STATUSES};

/// Filters and range; what isn't a filter is added when it is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub parameters: Vec<(&'static str, String)>,
    campaigns: Vec<i64>,
    from: i64,
    to: i64,
    by_click: bool,
    /// Name and text; where it is empty those that have none are meant.
    texts: Vec<(&'static str, String)>,
    status: Option<usize>,
    pub zone: Zone,
}

impl Question {
    /// Everything, of one whose token sees these campaigns.
    #[must_use]
    pub fn new(seen: &[i64]) -> Self {
        Self {
            parameters: Vec::new(),
            campaigns: seen.to_vec(),
            from: i64::MIN,
            to: i64::MAX,
            by_click: false,
            texts: Vec::new(),
            status: None,
            zone: Zone::utc(),
        }
    }

    #[must_use]
    pub fn campaign(mut self, id: i64) -> Self {
        self.parameters.push(("campaign_id", id.to_string()));
        self.campaigns.retain(|seen| *seen == id);
        self
    }

    /// A filter by a text that is compared as it is.
    #[must_use]
    pub fn text(mut self, name: &'static str, text: &str) -> Self {
        self.parameters.push((name, text.to_owned()));
        self.texts.push((name, text.to_owned()));
        self
    }

    /// A currency as it is sent, and as it is stored.
    #[must_use]
    pub fn currency(mut self, sent: &str, stored: &str) -> Self {
        self.parameters.push(("currency", sent.to_owned()));
        self.texts.push(("currency", stored.to_owned()));
        self
    }

    #[must_use]
    pub fn status(mut self, status: usize) -> Self {
        self.parameters
            .push(("status", STATUSES[status].to_owned()));
        self.status = Some(status);
        self
    }

    /// As it is written, and the first instant that it means.
    #[must_use]
    pub fn from(mut self, text: &str, instant: i64) -> Self {
        self.parameters.push(("from", text.to_owned()));
        self.from = instant;
        self
    }

    /// As it is written, and the first instant that doesn't belong to it.
    #[must_use]
    pub fn to(mut self, text: &str, instant: i64) -> Self {
        self.parameters.push(("to", text.to_owned()));
        self.to = instant;
        self
    }

    #[must_use]
    pub fn zone(mut self, name: &'static str) -> Self {
        self.parameters.push(("tz", name.to_owned()));
        self.zone = Zone::new(name);
        self
    }

    #[must_use]
    pub fn by_click(mut self) -> Self {
        self.parameters.push(("date", "click".to_owned()));
        self.by_click = true;
        self
    }

    /// The URL's path and query.
    #[must_use]
    pub fn target(&self, path: &str, more: &[(&str, String)]) -> String {
        let mut target = path.to_owned();
        let own = self.parameters.iter().map(|(name, value)| (*name, value));
        let more = more.iter().map(|(name, value)| (*name, value));
        for (number, (name, value)) in own.chain(more).enumerate() {
            target.push(if number == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.push_str(&encoded(value));
        }
        target
    }

    /// The time that it goes by.
    #[must_use]
    pub fn time(&self, one: &Conversion) -> i64 {
        match self.by_click {
            true => one.click.at,
            false => one.created_at,
        }
    }

    #[must_use]
    pub fn means(&self, one: &Conversion) -> bool {
        let time = self.time(one);
        self.campaigns.contains(&one.click.campaign)
            && self.from <= time
            && time < self.to
            && self.status.is_none_or(|status| status == one.present())
            && self.texts.iter().all(|(name, text)| {
                let has: &str = match *name {
                    "clickid" => &one.click.clickid,
                    "site_id" => &one.click.site,
                    "source" => &one.click.source,
                    "external_id" => one.external_id.as_deref().unwrap_or_default(),
                    "event" => &one.event,
                    "currency" => one.currency,
                    subid => subid_of(one, subid).unwrap_or_default(),
                };
                has == text
            })
    }

    /// Whether clicks can be told apart like this.
    #[must_use]
    pub fn has_clicks(&self) -> bool {
        let known = ["site_id", "source"];
        self.status.is_none() && self.texts.iter().all(|(name, _)| known.contains(name))
    }

    #[must_use]
    pub fn means_click(&self, click: &Click) -> bool {
        self.campaigns.contains(&click.campaign)
            && self.from <= click.at
            && click.at < self.to
            && self.texts.iter().all(|(name, text)| match *name {
                "site_id" => click.site == *text,
                _ => click.source == *text,
            })
    }

    /// From the newest to the oldest.
    #[must_use]
    pub fn list<'a>(&self, all: &'a [Conversion]) -> Vec<&'a Conversion> {
        let mut list: Vec<_> = all.iter().filter(|one| self.means(one)).collect();
        list.sort_by_key(|one| std::cmp::Reverse((self.time(one), &one.id)));
        list
    }
}

/// One of the five by its name.
#[must_use]
pub fn subid_of<'a>(one: &'a Conversion, name: &str) -> Option<&'a str> {
    let number = name
        .strip_prefix("subid")
        .and_then(|rest| rest.parse().ok());
    let number: usize = number.unwrap_or_else(|| panic!("no subid: {name}"));
    one.subids[number].as_deref()
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
