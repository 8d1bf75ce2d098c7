//! From records, answers of the engines' programs and other JSON to [`super::evidence`].

use super::evidence::{Click, Conversion, Place, Postback, Said, Signature, Spoken};
use super::exact;
use crate::kcat::Record;
use serde_json::Value;

/// Fields of a JSON object, by what they must be.
pub(super) struct Row<'a>(pub &'a Value);

impl Row<'_> {
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.0[name].as_i64()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0[name].as_str().map(str::to_owned)
    }

    /// PostgreSQL has booleans, SQLite 0 and 1.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        let value = &self.0[name];
        value.as_bool().or(value.as_i64().map(|number| number != 0))
    }

    /// PostgreSQL gives a JSON column as it is, SQLite as text.
    pub(super) fn json(&self, name: &str) -> Option<Value> {
        match &self.0[name] {
            Value::Null => None,
            Value::String(text) => serde_json::from_str(text).ok(),
            json => Some(json.clone()),
        }
    }

    fn time(&self, name: &str) -> Option<i64> {
        exact::time(self.0[name].as_str()?)
    }

    fn micros(&self, name: &str) -> Option<i64> {
        exact::micros(self.0[name].as_str()?)
    }

    /// An id of a foreign system: text or a number, none as empty.
    fn label(&self, name: &str) -> String {
        match &self.0[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    fn labels(&self) -> [String; 4] {
        ["site_id", "source", "publisher_id", "traffic_log_id"].map(|name| self.label(name))
    }

    fn subids(&self) -> Vec<Option<String>> {
        let list = self.0["subids"].as_array().map(Vec::as_slice);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        list.unwrap_or_default().iter().map(text).collect()
    }
}

fn place(record: &Record) -> Place {
    Place {
        partition: record.partition,
        offset: record.offset,
    }
}

fn value(record: &Record) -> Option<Value> {
    serde_json::from_str(&record.value).ok()
}

/// A record of `postern.clicks`: a click, or `None` with whether it is a barrier.
pub(super) fn click(record: &Record) -> Result<Click, bool> {
    // A barrier has no clickid.
    let json = value(record).ok_or(false)?;
    let row = Row(&json);
    let Some(clickid) = row.text("clickid") else {
        return Err(record.key == "barrier");
    };
    let campaign_id = row.label("campaign_id").trim().parse().unwrap_or(0);
    let clicked_at = match &json["clicked_at"] {
        Value::Null => None,
        _ => Some(row.time("clicked_at").ok_or(false)?),
    };
    if campaign_id < 1 || clickid.is_empty() {
        return Err(false);
    }
    Ok(Click {
        place: place(record),
        clickid,
        campaign_id,
        labels: row.labels(),
        clicked_at,
    })
}

/// A record of `postern.postbacks`.
pub(super) fn postback(record: &Record) -> Option<Postback> {
    let json = value(record)?;
    let row = Row(&json);
    let signature = Row(&json["signature"]);
    Some(Postback {
        place: place(record),
        key: record.key.clone(),
        request_id: row.text("request_id")?,
        received_at: row.time("received_at")?,
        clickid: row.text("clickid")?,
        micros: row.micros("revenue")?,
        currency: row.text("currency")?,
        currency_sent: row.flag("currency_sent")?,
        external_id: row.text("external_id"),
        subids: row.subids(),
        event: row.text("event"),
        said: said(&Row(&json["status"])),
        signature: signature.text("sig").map(|sig| Signature {
            sig,
            query: signature.text("query").unwrap_or_default(),
        }),
        address: Row(&json["origin"]).text("address")?,
        value: record.value.clone(),
    })
}

fn said(row: &Row<'_>) -> Option<Said> {
    Some(Said {
        word: row.text("word")?,
        status: row.text("status"),
    })
}

/// A record of `postern.conversions`.
pub(super) fn event(record: &Record) -> Option<Conversion> {
    let json = value(record)?;
    let row = Row(&json);
    Some(Conversion {
        conversion_id: row.text("conversion_id")?,
        status: Spoken {
            at: row.time("status_at")?,
            id: row.text("status_id")?,
            status: row.text("status")?,
        },
        clickid: row.text("clickid")?,
        event: row.text("event")?,
        campaign_id: row.number("campaign_id")?,
        labels: row.labels(),
        micros: row.micros("revenue")?,
        currency: row.text("currency")?,
        currency_sent: row.flag("currency_sent")?,
        external_id: row.text("external_id"),
        subids: row.subids(),
        created_at: row.time("created_at")?,
        clicked_at: row.time("clicked_at")?,
        policy_version: row.number("policy_version")?,
        dedupe: row.text("dedupe")?,
    })
}
