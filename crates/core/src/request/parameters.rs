//! The parameters that mean something, by the names they come under, out of query and body.

use std::borrow::Cow;
use std::ops::Range;

use super::query::{MAX_PARAMETERS, parse_str};
use super::{BodyKind, Incoming, Refusal, json, trim_blanks};

/// What came under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    #[default]
    Absent,
    /// An array, an object or a boolean: counts as absent, but the caller is told.
    NotText,
    Text(Cow<'a, [u8]>),
}

/// One slot for each name.
#[derive(Debug, Default)]
pub(super) struct Parameters<'a>([Slot<'a>; Parameters::NAMES.len()]);

/// A field's names, in the order in which they are asked.
pub(super) type Field = Range<usize>;

impl<'a> Parameters<'a> {
    pub(super) const NAMES: [&'static str; 18] = [
        "clickid",
        "click_id",
        "revenue",
        "payout",
        "cost",
        "currency",
        "subid0",
        "subid1",
        "subid2",
        "subid3",
        "subid4",
        "txid",
        "tid",
        "transaction_id",
        "event",
        "goal",
        "status",
        "type",
    ];
    pub(super) const CLICKID: Field = 0..2;
    pub(super) const REVENUE: Field = 2..5;
    pub(super) const CURRENCY: Field = 5..6;
    pub(super) const SUBIDS: Field = 6..11;
    pub(super) const EXTERNAL_ID: Field = 11..14;
    /// From here on are names that mean something only where a campaign says so.
    pub(super) const EVENT: Field = 14..16;
    pub(super) const STATUS: Field = 16..18;

    /// All fields, each subid one of its own.
    pub(super) fn fields() -> impl Iterator<Item = Field> {
        let subids = Self::SUBIDS.map(|index| index..index + 1);
        [Self::CLICKID, Self::REVENUE, Self::CURRENCY]
            .into_iter()
            .chain(subids)
            .chain([Self::EXTERNAL_ID, Self::EVENT, Self::STATUS])
    }

    /// The field that a name belongs to.
    pub(super) fn field_of(index: usize) -> Field {
        Self::fields()
            .find(|field| field.contains(&index))
            .unwrap_or(index..index + 1)
    }

    /// Query and body read and merged: under each name the body's value wins, also an empty one,
    /// and aliases are looked at afterwards. What counts as absent in the body leaves the query's
    /// value standing.
    pub(super) fn read(incoming: &Incoming<'a>) -> Result<Self, Refusal> {
        let mut merged = Self::form(incoming.query)?;
        let body = match incoming.body {
            Some((BodyKind::Form, body)) => Self::form(body)?,
            Some((BodyKind::Json, body)) => json::parse(body)?,
            None => return Ok(merged),
        };
        for (under, over) in merged.0.iter_mut().zip(body.0) {
            match (&under, &over) {
                (_, Slot::Absent) | (Slot::Text(_), Slot::NotText) => {}
                _ => *under = over,
            }
        }
        Ok(merged)
    }

    fn form(encoded: &'a [u8]) -> Result<Self, Refusal> {
        let parsed = parse_str(encoded);
        if parsed.is_cut() {
            return Err(Refusal::TooManyParameters {
                limit: MAX_PARAMETERS,
            });
        }
        let mut parameters = Self::default();
        for parameter in parsed.into_parameters() {
            if let Some(index) = Self::index(&parameter.name) {
                parameters.set_at(index, parameter.value.map_or(Slot::NotText, Slot::Text));
            }
        }
        Ok(parameters)
    }

    pub(super) fn index(name: &[u8]) -> Option<usize> {
        Self::NAMES
            .iter()
            .position(|known| known.as_bytes() == name)
    }

    pub(super) fn set_at(&mut self, index: usize, slot: Slot<'a>) {
        self.0[index] = slot;
    }

    pub(super) fn at(&self, index: usize) -> &Slot<'a> {
        &self.0[index]
    }

    /// The text under one name, as sent.
    pub(super) fn text(&self, index: usize) -> Option<&[u8]> {
        match &self.0[index] {
            Slot::Text(text) => Some(text),
            Slot::Absent | Slot::NotText => None,
        }
    }

    /// The names of a field that have a value other than blanks, in order, with the value as
    /// sent.
    pub(super) fn filled(&self, field: Field) -> impl Iterator<Item = (&'static str, &[u8])> {
        field.filter_map(|index| {
            let text = self.text(index)?;
            (!trim_blanks(text).is_empty()).then_some((Self::NAMES[index], text))
        })
    }

    /// The names under which something came that is no text, of those that mean something to
    /// every campaign.
    pub(super) fn not_text(&self) -> impl Iterator<Item = &'static str> {
        let slots = Self::NAMES.into_iter().zip(&self.0).take(Self::EVENT.start);
        slots
            .filter(|(_, slot)| **slot == Slot::NotText)
            .map(|(name, _)| name)
    }
}
