//! A postback that is only looked at: what the check endpoint and `postern parse` tell.

use crate::answer;
use crate::request::{Incoming, Rules, hint, remarks, understand};

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The code of the refusal that the postback would get.
    pub refused: Option<&'static str>,
    /// The answer's body; of a refusal the one that the postback would get.
    pub body: Vec<u8>,
}

/// Understands a postback by the rules, and tells how.
#[must_use]
pub fn check(incoming: &Incoming<'_>, rules: &Rules) -> Checked {
    match understand(incoming, rules) {
        Ok(fields) => Checked {
            refused: None,
            body: answer::understood(&fields, &remarks(incoming)),
        },
        Err(refusal) => Checked {
            refused: Some(refusal.code()),
            body: answer::refused(&refusal, hint(incoming, &refusal).as_deref()),
        },
    }
}
