//! Tracking URLs: where a campaign's clicks are redirected to.
//!
//! An operator writes the URL; visitors choose most of the values that its macros stand for. So
//! macros are only where a value can't lead anywhere else: in the path, the query and the
//! fragment, percent-encoded down to letters, digits and `-._~`.

use super::signature::push_encoded;
use url::Url;

/// Bytes of a tracking URL.
const MAX_BYTES: usize = 2_048;

/// A URL with macros, as an operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackingUrl(String);

/// What the macros stand for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Macros<'a> {
    /// `{clickid}`
    pub clickid: &'a str,
    /// `{campaign_id}`
    pub campaign_id: i64,
    /// `{site_id}`
    pub site_id: &'a str,
    /// `{source}`
    pub source: &'a str,
    /// `{subid0}` to `{subid4}`
    pub subids: [&'a str; 5],
}

/// Why a text can't be a tracking URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackingUrlError {
    /// Another scheme, none at all, or no host behind it.
    #[error("must begin with http:// or https:// and a host name")]
    NotHttp,
    /// It begins well, but isn't a URL.
    #[error("is not a URL: {0}")]
    Invalid(#[from] url::ParseError),
    /// There is no such macro.
    #[error(
        "{{{0}}} is not a macro; there are {{clickid}}, {{campaign_id}}, {{site_id}}, {{source}} \
         and {{subid0}} to {{subid4}}"
    )]
    UnknownMacro(String),
    /// A visitor would choose where he is sent.
    #[error(
        "{{{0}}} must not stand before the path: visitors would choose where they are sent, so \
         scheme, user, host and port must be written out"
    )]
    MacroInHost(String),
    /// A blank, a control character, a backslash, or anything beyond ASCII.
    #[error("{0:?} must be percent-encoded, or written as punycode in a host name")]
    Character(char),
    /// A brace that no macro has.
    #[error("a brace that belongs to no macro must be written as %7B or %7D")]
    Brace,
    /// Over 2,048 bytes.
    #[error("must not be longer than {MAX_BYTES} bytes")]
    TooLong,
}

impl TrackingUrl {
    /// Takes a URL; blanks around it are not part of it.
    ///
    /// # Errors
    ///
    /// [`TrackingUrlError`]; its message says what to change.
    pub fn parse(text: &str) -> Result<Self, TrackingUrlError> {
        let text = text.trim_ascii();
        if text.len() > MAX_BYTES {
            return Err(TrackingUrlError::TooLong);
        }
        // Browsers take a backslash for a slash, which moves the end of the host.
        let foreign = |c: &char| !c.is_ascii_graphic() || *c == '\\';
        if let Some(character) = text.chars().find(foreign) {
            return Err(TrackingUrlError::Character(character));
        }
        known_macros(text)?;

        let (scheme, rest) = text.split_once(':').ok_or(TrackingUrlError::NotHttp)?;
        written_out(scheme)?;
        if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
            return Err(TrackingUrlError::NotHttp);
        }
        // Browsers find a host behind any number of slashes; here are exactly two.
        let rest = rest.strip_prefix("//").ok_or(TrackingUrlError::NotHttp)?;
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        written_out(authority)?;
        if authority.is_empty() {
            return Err(TrackingUrlError::NotHttp);
        }
        let mut plain = String::new();
        expand(text, &mut plain, |_, plain| plain.push('x'));
        Url::parse(&plain)?;
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where a click goes: the URL with its macros replaced, in ASCII without blanks. Without a
    /// `{clickid}` in it, `clickid=` is appended to the query.
    #[must_use]
    pub fn target(&self, values: &Macros<'_>) -> String {
        let push = |name: &str, target: &mut String| values.push(name, target);
        let (rest, fragment) = split(&self.0, '#');
        let (base, query) = split(rest, '?');
        let mut target = String::with_capacity(2 * self.0.len());
        for (index, segment) in base.split('/').enumerate() {
            if index > 0 {
                target.push('/');
            }
            let start = target.len();
            expand(segment, &mut target, push);
            // A value of dots would climb, also percent-encoded, so it must become another name.
            if segment.contains('{') && is_dots(&target[start..]) {
                target.push('_');
            }
        }
        if let Some(query) = query {
            target.push('?');
            expand(query, &mut target, push);
        }
        if !self.0.contains("{clickid}") {
            match query {
                None => target.push('?'),
                Some(query) if query.is_empty() || query.ends_with('&') => {}
                Some(_) => target.push('&'),
            }
            target.push_str("clickid=");
            values.push("clickid", &mut target);
        }
        if let Some(fragment) = fragment {
            target.push('#');
            expand(fragment, &mut target, push);
        }
        target
    }
}

impl Macros<'_> {
    /// The names of all macros.
    const NAMES: [&'static str; 9] = [
        "clickid",
        "campaign_id",
        "site_id",
        "source",
        "subid0",
        "subid1",
        "subid2",
        "subid3",
        "subid4",
    ];

    fn push(&self, name: &str, target: &mut String) {
        let value = match name {
            "clickid" => self.clickid,
            "campaign_id" => &self.campaign_id.to_string(),
            "site_id" => self.site_id,
            "source" => self.source,
            "subid0" => self.subids[0],
            "subid1" => self.subids[1],
            "subid2" => self.subids[2],
            "subid3" => self.subids[3],
            "subid4" => self.subids[4],
            _ => return,
        };
        push_encoded(target, value.as_bytes());
    }
}

/// What stands before and behind the first `sign`.
fn split(text: &str, sign: char) -> (&str, Option<&str>) {
    match text.split_once(sign) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

/// Every brace belongs to a macro that there is.
fn known_macros(text: &str) -> Result<(), TrackingUrlError> {
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let inner = rest[open..].strip_prefix('{');
        let inner = inner.ok_or(TrackingUrlError::Brace)?;
        let close = inner.find(['{', '}']).ok_or(TrackingUrlError::Brace)?;
        let (name, after) = inner.split_at(close);
        rest = after.strip_prefix('}').ok_or(TrackingUrlError::Brace)?;
        if !Macros::NAMES.contains(&name) {
            return Err(TrackingUrlError::UnknownMacro(name.to_owned()));
        }
    }
    Ok(())
}

/// A part that must have no macro has none.
fn written_out(part: &str) -> Result<(), TrackingUrlError> {
    match part.split(['{', '}']).nth(1) {
        Some(name) => Err(TrackingUrlError::MacroInHost(name.to_owned())),
        None => Ok(()),
    }
}

/// Appends a text in which every brace belongs to a macro; `push` appends what stands for one.
fn expand(text: &str, target: &mut String, push: impl Fn(&str, &mut String)) {
    // Texts and names take turns.
    for (index, part) in text.split(['{', '}']).enumerate() {
        if index % 2 == 0 {
            target.push_str(part);
        } else {
            push(part, target);
        }
    }
}

/// Whether a segment of a path leads to its own or to the directory above, as browsers see it.
fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

#[cfg(test)]
mod tests;
