//! Hints: what a caller most likely has to change.
//!
//! They are guesses for people, made where a postback is refused or checked and never on the way
//! of a good one. Nothing depends on them. What may enter is the request and why it was refused;
//! how many names are looked at, how many hints come out and how long they are is limited.

mod amount;
mod names;

pub(super) use self::names::Stranger;

use self::amount::Written;
use super::parameters::{Field, Parameters, Slot};
use super::text::quoted;
use super::{BodyKind, Incoming, Refusal, is_macro};
use crate::money::{Revenue, RevenueError};

/// Most hints of one request.
const MOST: usize = 5;

/// One that belongs to a field.
struct Hint {
    field: Field,
    text: String,
}

/// What can be said of a request whose parameters could be read; what the refusal asks for comes
/// first, then the fields in their order.
pub(super) fn of(
    parameters: &Parameters<'_>,
    strangers: &[Stranger<'_>],
    refusal: Option<&Refusal>,
) -> Vec<String> {
    let mut hints = macros(parameters);
    hints.extend(arrays(parameters));
    hints.extend(revenue(parameters));
    hints.extend(names::meant(parameters, strangers));
    let refused = refusal.and_then(field);
    hints.sort_by_key(|hint| (refused.as_ref() != Some(&hint.field), hint.field.start));
    hints.into_iter().map(|hint| hint.text).take(MOST).collect()
}

/// What can be said where not even the parameters could be read.
pub(super) fn unreadable(incoming: &Incoming<'_>, refusal: &Refusal) -> Option<String> {
    let (Refusal::MalformedJson { .. }, Some((BodyKind::Json, body))) = (refusal, incoming.body)
    else {
        return None;
    };
    let name = body
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        .count();
    (name > 0 && body.get(name) == Some(&b'=')).then(|| {
        "the body looks like a form; send it with Content-Type: application/x-www-form-urlencoded"
            .to_owned()
    })
}

/// The field that a refusal is about.
fn field(refusal: &Refusal) -> Option<Field> {
    match refusal {
        Refusal::MissingClickid => Some(Parameters::CLICKID),
        Refusal::InvalidClickid { parameter, .. }
        | Refusal::InvalidRevenue { parameter, .. }
        | Refusal::UnresolvedMacro { parameter, .. } => {
            Parameters::index(parameter.as_bytes()).map(Parameters::field_of)
        }
        Refusal::MalformedJson { .. } | Refusal::TooManyParameters { .. } => None,
    }
}

/// The macro, if any, that keeps a field from having a value.
fn macros(parameters: &Parameters<'_>) -> Vec<Hint> {
    let fields = Parameters::fields();
    let first = fields.filter_map(|field| {
        let (name, value) = parameters.filled(field.clone()).next()?;
        let text = format!(
            "the tracker that sends this did not replace the macro {} in {name}; look up in its \
             documentation what it calls this value, and put that into its postback URL",
            quoted(value)
        );
        is_macro(value).then_some(Hint { field, text })
    });
    first.collect()
}

/// Fields that came as something else than a text, and otherwise not at all.
fn arrays(parameters: &Parameters<'_>) -> impl Iterator<Item = Hint> {
    Parameters::fields().filter_map(|field| {
        if parameters.filled(field.clone()).next().is_some() {
            return None;
        }
        let mut indexes = field.clone();
        let index = indexes.find(|&index| *parameters.at(index) == Slot::NotText)?;
        let name = Parameters::NAMES[index];
        let text = format!("send {name} as one plain value, without brackets: {name}=…");
        Some(Hint { field, text })
    })
}

/// How a revenue that isn't one would be written.
fn revenue(parameters: &Parameters<'_>) -> Option<Hint> {
    let field = Parameters::REVENUE;
    let (name, value) = parameters.filled(field.clone()).next()?;
    let reason = Revenue::parse(&String::from_utf8_lossy(value)).err()?;
    if reason != RevenueError::NotDecimal {
        return None;
    }
    let sent = quoted(value);
    let text = match amount::written(value)? {
        Written::Plain { amount, currency } => {
            let named = parameters.filled(Parameters::CURRENCY).next().is_some();
            let currency = match currency {
                Some(Some(code)) if !named => format!(" with currency={code}"),
                Some(None) if !named => ", and the code of its currency as currency".to_owned(),
                _ => String::new(),
            };
            format!("send {name} {sent} as {amount}{currency}")
        }
        Written::Either { thousands, decimal } => {
            format!("send {name} {sent} as {thousands} or as {decimal}, whichever it is")
        }
    };
    Some(Hint { field, text })
}

#[cfg(test)]
mod tests;
