//! The request: from the bytes of a query and a body to the fields of a postback, or to a named
//! refusal.
//!
//! A conversion isn't refused for a field that is needed neither to find the click nor to count
//! the money: such a field is kept as far as it can be, with a warning.
//!
//! What may enter is bytes and rules. Limits of size are the server's; everything here is linear
//! in what it is given.

mod hint;
mod json;
mod parameters;
pub mod query;
mod refusal;
mod signed;
mod template;
mod text;

use serde::{Deserialize, Serialize};

use self::hint::Stranger;
use self::parameters::{Field, Parameters};
pub use self::query::MAX_PARAMETERS;
pub use self::refusal::{Refusal, Warning};
use self::template::is_macro;
pub use self::text::STORED_BYTES;
pub(crate) use self::text::{is_blank, stored, trim_blanks};
use self::text::{quoted, shown};
use crate::campaign::signature::Signature;
use crate::currency::Currency;
use crate::ids::ClickId;
use crate::money::Revenue;
use crate::status::{Said, StatusWords};

/// Bytes that an event keeps.
pub const EVENT_BYTES: usize = 255;
/// Names of ignored parameters that a check tells.
pub const MAX_IGNORED: usize = 20;

/// How a body is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// `application/x-www-form-urlencoded`
    Form,
    /// `application/json`
    Json,
}

/// A request as it came in.
#[derive(Copy, Clone, Debug)]
pub struct Incoming<'a> {
    /// What stands behind the `?`, empty where there is none.
    pub query: &'a [u8],
    pub body: Option<(BodyKind, &'a [u8])>,
}

/// What becomes of a revenue that isn't one (`revenue.invalid`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvalidRevenue {
    /// The postback is refused.
    #[default]
    Reject,
    /// It counts as 0, with a warning.
    Zero,
    /// The number it begins with counts, as PHP's `(float)` reads it; 0 where that is negative,
    /// infinite or over the limit. With a warning.
    Php,
}

/// The rules of an installation by which requests are understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub invalid_revenue: InvalidRevenue,
    /// What callers' status words mean.
    pub status_words: StatusWords,
}

/// A postback's fields, normalized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    pub clickid: ClickId,
    pub revenue: Revenue,
    /// The revenue as it was sent, where that isn't what `revenue` prints; cut as a subid is.
    pub revenue_raw: Option<String>,
    pub currency: Currency,
    /// Whether `currency` is the caller's and not the default.
    pub currency_sent: bool,
    pub external_id: Option<String>,
    pub subids: [Option<String>; 5],
    /// The goal that was reached, as sent; campaigns decide whether it means anything, as for
    /// what follows.
    pub event: Option<String>,
    pub status: Option<Said>,
    pub signature: Option<Signature>,
    pub warnings: Vec<Warning>,
}

/// Makes a postback's fields of a request. The first thing that is wrong is what is told, in the
/// order body, clickid, revenue, currency.
pub fn understand(incoming: &Incoming<'_>, rules: &Rules) -> Result<Fields, Refusal> {
    let parameters = Parameters::read(incoming)?;
    let clickid = clickid(&parameters)?;
    let mut warnings = ignored(&parameters);
    let (revenue, revenue_raw) = revenue(&parameters, rules, &mut warnings)?;
    let currency = currency(&parameters, revenue, &mut warnings)?;
    Ok(Fields {
        clickid,
        revenue,
        revenue_raw,
        currency_sent: currency.is_some(),
        currency: currency.unwrap_or_default(),
        external_id: external_id(&parameters, &mut warnings),
        subids: subids(&parameters, &mut warnings),
        event: event(&parameters),
        status: status(&parameters, rules),
        signature: signed::read(incoming),
        warnings,
    })
}

/// What a check tells beside the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Names of parameters that mean nothing, each once, cut; the first [`MAX_IGNORED`] of them.
    pub ignored: Vec<String>,
    /// What the caller may have meant otherwise, a sentence each.
    pub hints: Vec<String>,
}

/// Looks at a request that could be understood for what its sender may not have meant.
pub fn remarks(incoming: &Incoming<'_>) -> Remarks {
    let Ok(parameters) = Parameters::read(incoming) else {
        return Remarks::default();
    };
    let strangers = Stranger::all(incoming);
    let mut ignored: Vec<String> = Vec::new();
    for stranger in &strangers {
        if ignored.len() == MAX_IGNORED {
            break;
        }
        let name = shown(&stranger.name);
        if !ignored.contains(&name) {
            ignored.push(name);
        }
    }
    Remarks {
        ignored,
        hints: hint::of(&parameters, &strangers, None),
    }
}

/// What the caller of a refused postback most likely has to change.
pub fn hint(incoming: &Incoming<'_>, refusal: &Refusal) -> Option<String> {
    let Ok(parameters) = Parameters::read(incoming) else {
        return hint::unreadable(incoming, refusal);
    };
    let hints = hint::of(&parameters, &Stranger::all(incoming), Some(refusal));
    hints.into_iter().next()
}

fn first<'p>(parameters: &'p Parameters<'_>, field: Field) -> Option<(&'static str, &'p [u8])> {
    parameters.filled(field).next()
}

fn clickid(parameters: &Parameters<'_>) -> Result<ClickId, Refusal> {
    let (name, value) = first(parameters, Parameters::CLICKID).ok_or(Refusal::MissingClickid)?;
    if is_macro(value) {
        return Err(Refusal::unresolved(name, value));
    }
    ClickId::parse(value).map_err(|reason| Refusal::clickid(name, value, reason))
}

fn revenue(
    parameters: &Parameters<'_>,
    rules: &Rules,
    warnings: &mut Vec<Warning>,
) -> Result<(Revenue, Option<String>), Refusal> {
    let Some((name, value)) = first(parameters, Parameters::REVENUE) else {
        return Ok((Revenue::ZERO, None));
    };
    // In every mode: a template that was never filled in can be put right, and must be.
    if is_macro(value) {
        return Err(Refusal::unresolved(name, value));
    }
    // What isn't UTF-8 isn't a decimal either.
    let text = String::from_utf8_lossy(value);
    let revenue = match Revenue::parse(&text) {
        Ok(revenue) => revenue,
        Err(reason) => {
            let counted = match rules.invalid_revenue {
                InvalidRevenue::Reject => return Err(Refusal::revenue(name, value, reason)),
                InvalidRevenue::Zero => Revenue::ZERO,
                InvalidRevenue::Php => Revenue::parse_prefix(value).unwrap_or(Revenue::ZERO),
            };
            let message = format!("{name} {} is {reason}; counted as {counted}", quoted(value));
            warnings.push(Warning::new(Warning::INVALID_REVENUE, name, message));
            counted
        }
    };
    let raw = (revenue.to_string() != text).then(|| stored(value, STORED_BYTES).0);
    Ok((revenue, raw))
}

/// Without its currency an amount isn't counted, so a macro that wasn't replaced is refused as it
/// is for the revenue. Of nothing the currency doesn't matter.
fn currency(
    parameters: &Parameters<'_>,
    revenue: Revenue,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Currency>, Refusal> {
    let Some((name, value)) = first(parameters, Parameters::CURRENCY) else {
        return Ok(None);
    };
    if !is_macro(value) {
        return Ok(Some(Currency::normalize(&String::from_utf8_lossy(value))));
    }
    if revenue != Revenue::ZERO {
        return Err(Refusal::unresolved(name, value));
    }
    warnings.push(unresolved(name, value, "counted as absent"));
    Ok(None)
}

/// A transaction id that is a macro is none: kept, it would make all conversions of a click but
/// the first duplicates.
fn external_id(parameters: &Parameters<'_>, warnings: &mut Vec<Warning>) -> Option<String> {
    for (name, value) in parameters.filled(Parameters::EXTERNAL_ID) {
        if !is_macro(value) {
            return Some(free_text(name, value, warnings));
        }
        warnings.push(unresolved(name, value, "counted as absent"));
    }
    None
}

fn subids(parameters: &Parameters<'_>, warnings: &mut Vec<Warning>) -> [Option<String>; 5] {
    std::array::from_fn(|number| {
        let index = Parameters::SUBIDS.start + number;
        let (name, value) = (Parameters::NAMES[index], parameters.text(index)?);
        if is_macro(value) {
            warnings.push(unresolved(name, value, "stored as it is"));
        }
        Some(free_text(name, value, warnings))
    })
}

/// A macro that wasn't replaced says nothing of the event. Without a warning, and the same for
/// the status: whether anybody asks isn't known here.
fn event(parameters: &Parameters<'_>) -> Option<String> {
    let mut filled = parameters.filled(Parameters::EVENT);
    let (_, value) = filled.find(|(_, value)| !is_macro(value))?;
    Some(stored(trim_blanks(value), EVENT_BYTES).0)
}

fn status(parameters: &Parameters<'_>, rules: &Rules) -> Option<Said> {
    let mut filled = parameters.filled(Parameters::STATUS);
    let (_, value) = filled.find(|(_, value)| !is_macro(value))?;
    Some(rules.status_words.read(value))
}

fn free_text(name: &'static str, value: &[u8], warnings: &mut Vec<Warning>) -> String {
    let (text, cut) = stored(value, STORED_BYTES);
    if cut {
        let message = format!("{name} is longer than {STORED_BYTES} bytes; the rest was cut off");
        warnings.push(Warning::new(Warning::TRUNCATED, name, message));
    }
    text
}

fn ignored(parameters: &Parameters<'_>) -> Vec<Warning> {
    let warning = |name| {
        let message = format!("{name} is neither a text nor a number; counted as absent");
        Warning::new(Warning::IGNORED_VALUE, name, message)
    };
    parameters.not_text().map(warning).collect()
}

fn unresolved(name: &'static str, value: &[u8], done: &str) -> Warning {
    let message = format!("{name} is the unresolved macro {}; {done}", quoted(value));
    Warning::new(Warning::UNRESOLVED_MACRO, name, message)
}

#[cfg(test)]
mod tests;
