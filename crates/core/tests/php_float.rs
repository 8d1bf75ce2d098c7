//! The `php` mode of `revenue.invalid` held against php's own `(float)`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod php;

use php::Random;
use postern_core::money::Revenue;
use postern_core::request::{Incoming, InvalidRevenue, Rules, understand};

const TEXTS: usize = 20_000;

#[test]
fn reads_a_revenue_as_php_does() {
    let mut random = Random::new();
    let texts: Vec<Vec<u8>> = (0..TEXTS).map(|_| generate(&mut random)).collect();
    let records: Vec<_> = texts.iter().map(|text| ('F', text.clone())).collect();
    let Some(answers) = php::ask(&records) else {
        return;
    };
    let mut counted = 0;
    for (text, answer) in texts.iter().zip(&answers) {
        // Negative, infinite and over the limit count as 0; so does what has no number in front.
        let expected = Revenue::parse(answer).unwrap_or(Revenue::ZERO);
        let found = understood(text);
        counted += usize::from(found != Revenue::ZERO);
        assert_eq!(
            found,
            expected,
            "{}: php says {answer}",
            text.escape_ascii()
        );
    }
    assert!(counted > TEXTS / 10, "only {counted} texts had a value");
}

fn understood(text: &[u8]) -> Revenue {
    let encoded: String = text.iter().map(|byte| format!("%{byte:02x}")).collect();
    let query = format!("clickid=a&revenue={encoded}");
    let incoming = Incoming {
        query: query.as_bytes(),
        body: None,
    };
    let rules = Rules {
        invalid_revenue: InvalidRevenue::Php,
        ..Rules::default()
    };
    understand(&incoming, &rules).unwrap().revenue
}

/// At most 14 digits, which a float keeps exactly: what PHP makes of more is its rounding and
/// not asked here. No macros either, which are refused in every mode.
fn generate(random: &mut Random) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "0", "1", "5", "9", "12", "50", "00", ".", ".", ".", ",", "e", "E", "e1", "e-2", "e+3",
        "e99", "+", "-", " ", "\t", "\n", "\u{b}", "\0", "x", "USD", "$", "_", "INF", "NAN", "0x",
        "\u{ff}",
    ];
    loop {
        let mut text = Vec::new();
        if random.below(3) != 0 {
            text.extend(random.below(100_000).to_string().bytes());
        }
        for _ in 0..random.below(6) {
            text.extend(random.pick(PIECES).bytes());
        }
        if text.iter().filter(|byte| byte.is_ascii_digit()).count() <= 14 {
            return text;
        }
    }
}
