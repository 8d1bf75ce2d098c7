//! The parameters of a question. Every one must be known and of use: a filter that is misspelt
//! and ignored would show too much.

use crate::routes::Answer;
use hyper::StatusCode;
use postern_core::answer::Body;
use postern_core::request::query::parse_str;
use std::collections::BTreeMap;
use std::fmt::Display;

/// How many faults are told.
const MAX_FAULTS: usize = 20;
/// How much of a name that nobody knows is told, in characters.
const SHOWN: usize = 64;
/// Longest value that is looked for, in bytes; none that is stored is longer.
const MAX_VALUE: usize = 16 * 1024;

/// What was given, as far as it wasn't asked for yet, and what is wrong with the rest.
pub(crate) struct Parameters {
    given: BTreeMap<String, Option<String>>,
    faults: Vec<(String, String)>,
}

impl Parameters {
    /// Of a name that is given several times the last counts, as in a postback.
    pub(crate) fn read(query: &str) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let parsed = parse_str(query.as_bytes());
        let mut faults = Vec::new();
        if parsed.is_cut() {
            faults.push((String::new(), "too many parameters".to_owned()));
        }
        let given = parsed
            .into_parameters()
            .map(|one| (text(&one.name), one.value.map(|value| text(&value))))
            .collect();
        Self { given, faults }
    }

    /// A text, as it is; an empty one is a text.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let value = self.given.remove(name)?;
        match value {
            None => self.fault(name, "is an array"),
            Some(value) if value.len() > MAX_VALUE => self.fault(name, "is too long"),
            Some(value) if value.contains('\0') => self.fault(name, "holds NUL"),
            Some(value) => return Some(value),
        }
        None
    }

    /// Something that is written as text.
    pub(crate) fn parsed<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(why) => {
                self.fault(name, why);
                None
            }
        }
    }

    /// A whole number in a range.
    pub(crate) fn number(&mut self, name: &str, least: i64, most: i64) -> Option<i64> {
        self.parsed(name, |text| {
            let number = text.parse().ok();
            number
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| match most {
                    i64::MAX => format!("must be an integer from {least} on"),
                    _ => format!("must be an integer from {least} to {most}"),
                })
        })
    }

    /// 0 or 1.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let flag = self.parsed(name, |text| match text {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err("must be 0 or 1"),
        });
        flag.unwrap_or(false)
    }

    /// Notes that a value can't be used.
    pub(crate) fn fault(&mut self, name: &str, why: impl Display) {
        self.faults.push((name.to_owned(), why.to_string()));
    }

    /// What is left nobody knows.
    ///
    /// # Errors
    ///
    /// The answer that names all that is wrong.
    pub(crate) fn finish(self) -> Result<(), Answer> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        let (names, sentences): (Vec<String>, Vec<String>) = faults.into_iter().unzip();
        let names = serde_json::Value::from(names).to_string();
        Err(Answer::json(
            StatusCode::BAD_REQUEST,
            Body::new("error")
                .text("error", "invalid_parameters")
                .text("message", &sentences.join("; "))
                .raw("parameters", names.as_bytes())
                .finish(),
            "invalid_parameters",
        ))
    }

    /// The names that something is wrong with, and what.
    fn faults(self) -> Vec<(String, String)> {
        let known = self.faults.into_iter().map(|(name, why)| {
            let sentence = format!("{name} {why}");
            (name, sentence)
        });
        let unknown = self.given.into_keys().map(|name| {
            let name: String = name.chars().take(SHOWN).collect();
            let sentence = format!("{name:?} is no parameter of this endpoint");
            (name, sentence)
        });
        known.chain(unknown).take(MAX_FAULTS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named() {
        let mut parameters = Parameters::read(
            "a=1&limit=5000&history=yes&b%20c=2&site_id[]=1&clickid=x+y&clickid=z",
        );
        assert_eq!(parameters.text("clickid").as_deref(), Some("z"));
        assert_eq!(parameters.number("limit", 1, 1_000), None);
        assert!(!parameters.flag("history"));
        assert_eq!(parameters.text("site_id"), None);
        let (names, sentences): (Vec<String>, Vec<String>) =
            parameters.faults().into_iter().unzip();
        assert_eq!(names, ["limit", "history", "site_id", "a", "b_c"]);
        assert_eq!(
            sentences,
            [
                "limit must be an integer from 1 to 1000",
                "history must be 0 or 1",
                "site_id is an array",
                "\"a\" is no parameter of this endpoint",
                "\"b_c\" is no parameter of this endpoint",
            ]
        );
    }

    #[test]
    fn an_empty_text_is_a_text_and_no_number() {
        let mut parameters = Parameters::read("source=&limit=");
        assert_eq!(parameters.text("source").as_deref(), Some(""));
        assert_eq!(parameters.number("limit", 1, 10), None);
        assert!(parameters.finish().is_err());
        assert!(Parameters::read("").finish().is_ok());
    }
}
