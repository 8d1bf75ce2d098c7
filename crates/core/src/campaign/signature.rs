//! Signed postbacks: what is signed, with what, and whether a signature is right.
//!
//! The canonical query is all parameters but `sig`, decoded, sorted by name and written again in
//! one way only, so that it doesn't matter how a caller orders and escapes them. PHP's
//! `ksort($p, SORT_STRING)` and `http_build_query($p, '', '&', PHP_QUERY_RFC3986)` give the same.

use super::PostbackSecret;
use crate::request::stored;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The parameter that carries the signature, and is not part of what is signed.
pub const NAME: &[u8] = b"sig";
/// Bytes of a canonical query; the record that carries it must fit Kafka's 1 MiB.
pub const MAX_QUERY_BYTES: usize = 64 * 1024;
/// Bytes that are kept of what came as a signature. A right one has 64, so what is cut was wrong
/// and stays so.
const SIG_BYTES: usize = 128;

/// What a postback was signed with, and what of it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// As sent, cut to 128 bytes.
    pub sig: String,
    /// The canonical query; empty where nothing can verify.
    pub query: String,
}

impl Signature {
    /// Puts what came under `sig` beside the query that it should have been made of.
    #[must_use]
    pub fn new(sig: &[u8], query: String) -> Self {
        Self {
            sig: stored(sig, SIG_BYTES).0,
            query,
        }
    }
}

/// The canonical query of decoded parameters. Those of one name keep their order. Empty where it
/// would be longer than [`MAX_QUERY_BYTES`].
#[must_use]
pub fn canonical<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let mut pairs: Vec<_> = pairs
        .into_iter()
        .filter(|(name, _)| *name != NAME)
        .collect();
    pairs.sort_by_key(|(name, _)| *name);
    let mut query = String::new();
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        if index > 0 {
            query.push('&');
        }
        push_encoded(&mut query, name);
        query.push('=');
        push_encoded(&mut query, value);
        if query.len() > MAX_QUERY_BYTES {
            return String::new();
        }
    }
    query
}

/// The signature of a canonical query: 64 hexadecimal digits in lower case.
#[must_use]
pub fn sign(secret: &PostbackSecret, query: &str) -> String {
    // HMAC takes a key of any length, so there always is one.
    mac(secret, query).map_or_else(String::new, |mac| hex::encode(mac.finalize().into_bytes()))
}

/// Whether the signature is that of its query, in a time that doesn't tell how much of it is
/// right. An empty query verifies nothing, whoever signed it.
#[must_use]
pub fn verify(signature: &Signature, secret: &PostbackSecret) -> bool {
    if signature.query.is_empty() {
        return false;
    }
    let Ok(sent) = hex::decode(&signature.sig) else {
        return false;
    };
    mac(secret, &signature.query).is_some_and(|mac| mac.verify_slice(&sent).is_ok())
}

fn mac(secret: &PostbackSecret, query: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
    mac.update(query.as_bytes());
    Some(mac)
}

/// Appends bytes as RFC 3986 encodes them: only letters, digits and `-._~` stay.
pub(super) fn push_encoded(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => {
                text.push('%');
                text.push(DIGITS[usize::from(byte >> 4)]);
                text.push(DIGITS[usize::from(byte & 0xf)]);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> String {
        canonical(pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())))
    }

    fn secret(text: &str) -> PostbackSecret {
        PostbackSecret::parse(text).unwrap()
    }

    #[test]
    fn is_sorted_by_name_and_encoded_in_one_way() {
        let pairs = [
            ("revenue", "1.50"),
            ("b", "2"),
            ("clickid", "a b+c&d=e%f~*'()!/é"),
            ("b", "1"),
            ("sig", "x"),
            ("B", ""),
            ("10", "ten"),
            ("9", "nine"),
            ("a.b c", "."),
            ("SIG", "y"),
        ];
        assert_eq!(
            of(&pairs),
            "10=ten&9=nine&B=&SIG=y&a.b%20c=.&b=2&b=1\
             &clickid=a%20b%2Bc%26d%3De%25f~%2A%27%28%29%21%2F%C3%A9&revenue=1.50"
        );
        assert_eq!(of(&[("sig", "x")]), "");
        assert_eq!(of(&[("", "")]), "=");
        assert_eq!(canonical([(&b"\0"[..], &b"\xff"[..])]), "%00=%FF");
        // By the names themselves, not by what they are encoded as.
        assert_eq!(of(&[("é", ""), ("~", "")]), "~=&%C3%A9=");
        assert_eq!(of(&[("[", ""), ("A", "")]), "A=&%5B=");
    }

    /// The digest is `openssl dgst -sha256 -hmac`'s.
    #[test]
    fn a_signature_is_that_of_its_query_and_secret() {
        let key = secret("0123456789abcdef");
        let query = "clickid=abc&revenue=1.50";
        let sig = sign(&key, query);
        assert_eq!(sig, SIGNED);
        let verifies = |sig: &str, query: &str, key: &PostbackSecret| {
            verify(&Signature::new(sig.as_bytes(), query.to_owned()), key)
        };
        assert!(verifies(&sig, query, &key));
        assert!(verifies(&sig.to_uppercase(), query, &key));
        assert!(!verifies(&sig, query, &secret("0123456789abcdeF")));
        assert!(!verifies(&sig, "clickid=abc&revenue=1.51", &key));
        let longer = "0".repeat(100_000);
        for wrong in [
            "",
            "00",
            &sig[..62],
            &sig[..63],
            &sig[2..],
            &format!("{sig}00"),
            &format!("{sig} "),
            &format!(" {sig}"),
            &format!("{sig}{longer}"),
            &format!("0x{sig}"),
            &sig.replace(&sig[..1], "g"),
            &"0".repeat(64),
        ] {
            assert!(!verifies(wrong, query, &key), "{wrong}");
        }
        // One bit, anywhere.
        let digest = hex::decode(&sig).unwrap();
        for bit in 0..digest.len() * 8 {
            let mut other = digest.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies(&hex::encode(other), query, &key), "bit {bit}");
        }
    }

    const SIGNED: &str = "bd5e91c4912196f500164a024acb85fc9c2aaaf4eea86afe20a000e1fe7b0899";

    #[test]
    fn an_empty_query_verifies_nothing() {
        let key = secret("0123456789abcdef");
        let signature = Signature::new(sign(&key, "").as_bytes(), String::new());
        assert!(!verify(&signature, &key));
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let value = "x".repeat(MAX_QUERY_BYTES - 2);
        assert_eq!(of(&[("a", &value)]), format!("a={value}"));
        assert_eq!(of(&[("a", &format!("{value}x"))]), "");
        assert_eq!(of(&[("a", &value), ("b", "")]), "");
        let signature = Signature::new(&[0xff; 100_000], String::new());
        assert!(signature.sig.len() <= SIG_BYTES);
    }

    #[test]
    fn keys_of_any_length_sign() {
        for length in [16, 63, 64, 65, 255] {
            let key = secret(&"k".repeat(length));
            let signature = Signature::new(sign(&key, "a=1").as_bytes(), "a=1".to_owned());
            assert!(verify(&signature, &key), "{length}");
        }
    }
}
