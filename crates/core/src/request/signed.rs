//! The signature of a request: what came under `sig`, and the canonical query of all the rest.
//!
//! The parameters are those that were sent, under the names that were sent: what PHP's mangling
//! makes of a name plays no part, and neither does whether it means anything.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::slot;
use super::parameters::Slot;
use super::query::{decode, pairs};
use super::{BodyKind, Incoming};
use crate::campaign::signature::{NAME, Signature, canonical};

/// A parameter's name and value, decoded.
type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// What the request was signed with; `None` where no `sig` came. The body's parameters come
/// after the query's, and the last `sig` counts.
pub(super) fn read(incoming: &Incoming<'_>) -> Option<Signature> {
    if !may_be_signed(incoming) {
        return None;
    }
    let mut sent: Vec<Pair<'_>> = form(incoming.query).collect();
    let whole = match incoming.body {
        None => true,
        Some((BodyKind::Form, body)) => {
            sent.extend(form(body));
            true
        }
        Some((BodyKind::Json, body)) => json(body, &mut sent),
    };
    let (_, sig) = sent.iter().rev().find(|(name, _)| **name == *NAME)?;
    // A part alone is not what was signed.
    let query = if whole {
        canonical(sent.iter().map(|(name, value)| (&**name, &**value)))
    } else {
        String::new()
    };
    Some(Signature::new(sig, query))
}

/// Most postbacks aren't signed and are asked no more than this.
fn may_be_signed(incoming: &Incoming<'_>) -> bool {
    let named = |encoded| pairs(encoded).any(|(name, _)| *decode(name, true) == *NAME);
    named(incoming.query)
        || match incoming.body {
            None => false,
            Some((BodyKind::Form, body)) => named(body),
            // The name may be escaped.
            Some((BodyKind::Json, body)) => contains(body, NAME) || contains(body, b"\\u"),
        }
}

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|window| window == word)
}

fn form(encoded: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    pairs(encoded).map(|(name, value)| (decode(name, true), decode(value, true)))
}

/// Adds the members of an object that are strings or numbers. Any other value counts as absent,
/// as it does for the fields, and so does what stood under its name before it: else a member that
/// nobody signed could take away one that was. `false` where something can't be read as text.
fn json<'a>(body: &'a [u8], sent: &mut Vec<Pair<'a>>) -> bool {
    let Some(members) = members(body) else {
        return false;
    };
    let mut whole = true;
    let mut absent = BTreeSet::new();
    let mut read = Vec::with_capacity(members.len());
    for (name, raw) in members.into_iter().rev() {
        match slot(raw) {
            Ok(Slot::Text(_)) if absent.contains(&name) => {}
            Ok(Slot::Text(value)) => read.push((into_bytes(name), value)),
            Ok(Slot::Absent | Slot::NotText) => {
                absent.insert(name);
            }
            Err(_) => whole = false,
        }
    }
    sent.extend(read.into_iter().rev());
    whole
}

pub(super) fn into_bytes(name: Cow<'_, str>) -> Cow<'_, [u8]> {
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
        Cow::Owned(name) => Cow::Owned(name.into_bytes()),
    }
}

/// The names and raw values of what is one JSON object.
pub(super) fn members(body: &[u8]) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let text = str::from_utf8(body).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = serde_json::Deserializer::from_str(text);
    let members = reader.deserialize_map(Members).ok()?;
    reader.end().ok()?;
    Some(members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            members.push((name, value.get()));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests;
