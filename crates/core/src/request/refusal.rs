//! What a caller is told: why a postback was refused, or what was done about an odd value.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::text::quoted;
use crate::ids::ClickIdError;
use crate::money::RevenueError;

/// Why no postback can be made of a request. The text says what to change; a value in it is
/// quoted, cut and printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // The API page fixes this text.
    #[error("clickid parameter is required")]
    MissingClickid,
    #[error("{parameter} {value} is invalid: {reason}; send it as it was received with the click")]
    InvalidClickid {
        parameter: &'static str,
        value: String,
        reason: ClickIdError,
    },
    #[error(
        "{parameter} {value} is {reason}; send 0 or more as digits with a decimal point, like 1.50"
    )]
    InvalidRevenue {
        parameter: &'static str,
        value: String,
        reason: RevenueError,
    },
    #[error("{parameter} is the unresolved macro {value}; have it replaced by its value")]
    UnresolvedMacro {
        parameter: &'static str,
        value: String,
    },
    /// Line and column count from 1, the column in bytes; column 0 is before the first byte.
    #[error("the JSON body can't be read at line {line} column {column}: {detail}")]
    MalformedJson {
        line: usize,
        column: usize,
        detail: String,
    },
    #[error("more than {limit} parameters; send only those that the API names")]
    TooManyParameters { limit: usize },
}

impl Refusal {
    /// What [`Self::code`] can be: of a request that was read to its end.
    pub const CODES: [&str; 6] = [
        "missing_clickid",
        "invalid_clickid",
        "invalid_revenue",
        "unresolved_macro",
        "malformed_json",
        "too_many_parameters",
    ];

    /// The `error` of the answer.
    pub fn code(&self) -> &'static str {
        let code = match self {
            Self::MissingClickid => 0,
            Self::InvalidClickid { .. } => 1,
            Self::InvalidRevenue { .. } => 2,
            Self::UnresolvedMacro { .. } => 3,
            Self::MalformedJson { .. } => 4,
            Self::TooManyParameters { .. } => 5,
        };
        Self::CODES[code]
    }

    /// The `message` of the answer.
    pub fn message(&self) -> String {
        self.to_string()
    }

    pub(super) fn clickid(parameter: &'static str, value: &[u8], reason: ClickIdError) -> Self {
        Self::InvalidClickid {
            parameter,
            value: quoted(value),
            reason,
        }
    }

    pub(super) fn revenue(parameter: &'static str, value: &[u8], reason: RevenueError) -> Self {
        Self::InvalidRevenue {
            parameter,
            value: quoted(value),
            reason,
        }
    }

    pub(super) fn unresolved(parameter: &'static str, value: &[u8]) -> Self {
        Self::UnresolvedMacro {
            parameter,
            value: quoted(value),
        }
    }
}

/// Something odd about a postback that was accepted all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub code: Cow<'static, str>,
    /// The name under which the value came.
    pub parameter: Cow<'static, str>,
    pub message: String,
}

impl Warning {
    pub const INVALID_REVENUE: &'static str = "invalid_revenue";
    pub const UNRESOLVED_MACRO: &'static str = "unresolved_macro";
    pub const TRUNCATED: &'static str = "truncated";
    pub const IGNORED_VALUE: &'static str = "ignored_value";

    pub(super) fn new(code: &'static str, parameter: &'static str, message: String) -> Self {
        Self {
            code: code.into(),
            parameter: parameter.into(),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_missing_clickid_is_told_in_the_words_of_the_api_page() {
        assert_eq!(Refusal::MissingClickid.code(), "missing_clickid");
        assert_eq!(
            Refusal::MissingClickid.message(),
            "clickid parameter is required"
        );
    }

    #[test]
    fn messages_say_what_to_change() {
        for (refusal, message) in [
            (
                Refusal::clickid("click_id", b"a\n", ClickIdError::ControlCharacter),
                r#"click_id "a\n" is invalid: a control character is in it; send it as it was received with the click"#,
            ),
            (
                Refusal::clickid("clickid", b"aa", ClickIdError::TooLong { bytes: 300 }),
                r#"clickid "aa" is invalid: 300 bytes long, at most 255 are allowed; send it as it was received with the click"#,
            ),
            (
                Refusal::revenue("payout", b"1,50", RevenueError::NotDecimal),
                r#"payout "1,50" is not a decimal number; send 0 or more as digits with a decimal point, like 1.50"#,
            ),
            (
                Refusal::unresolved("revenue", b"{payout}"),
                r#"revenue is the unresolved macro "{payout}"; have it replaced by its value"#,
            ),
        ] {
            assert_eq!(refusal.message(), message);
        }
    }

    #[test]
    fn a_warning_is_a_record() {
        let warning = Warning::new(Warning::TRUNCATED, "txid", "cut".into());
        let json = r#"{"code":"truncated","parameter":"txid","message":"cut"}"#;
        assert_eq!(serde_json::to_string(&warning).unwrap(), json);
        assert_eq!(serde_json::from_str::<Warning>(json).unwrap(), warning);
    }
}
