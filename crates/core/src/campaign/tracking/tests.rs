#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use proptest::prelude::*;

const VALUES: Macros<'static> = Macros {
    clickid: "c1",
    campaign_id: 42,
    site_id: "s 1",
    source: "a/b?c#d&e=f%20+{g}\\é\r\n",
    subids: ["0", "1", "", "~-._", "4"],
};
const SOURCE: &str = "a%2Fb%3Fc%23d%26e%3Df%2520%2B%7Bg%7D%5C%C3%A9%0D%0A";

fn target(template: &str) -> String {
    TrackingUrl::parse(template).unwrap().target(&VALUES)
}

fn with_source(template: &str, source: &str) -> String {
    let values = Macros { source, ..VALUES };
    TrackingUrl::parse(template).unwrap().target(&values)
}

fn error(template: &str) -> TrackingUrlError {
    TrackingUrl::parse(template).unwrap_err()
}

#[test]
fn macros_are_replaced_where_they_stand() {
    assert_eq!(
        target(
            "https://t.example/{campaign_id}/{site_id}-x?c={clickid}&s={source}\
             &n={subid0}{subid1}{subid2}{subid3}{subid4}#{clickid}/{source}"
        ),
        format!("https://t.example/42/s%201-x?c=c1&s={SOURCE}&n=01~-._4#c1/{SOURCE}")
    );
    assert_eq!(target("http://h/{clickid}"), "http://h/c1");
    assert_eq!(target("http://h/#{clickid}"), "http://h/#c1");
    assert_eq!(
        target("http://h/?{source}={clickid}"),
        format!("http://h/?{SOURCE}=c1")
    );
    assert_eq!(target("http://h/${clickid}$"), "http://h/$c1$");
}

#[test]
fn a_clickid_without_a_macro_is_appended_to_the_query() {
    for (template, expected) in [
        ("https://h", "https://h?clickid=c1"),
        ("https://h/", "https://h/?clickid=c1"),
        ("https://h/a/b", "https://h/a/b?clickid=c1"),
        ("https://h/?", "https://h/?clickid=c1"),
        ("https://h?a=1", "https://h?a=1&clickid=c1"),
        ("https://h/?a=1&", "https://h/?a=1&clickid=c1"),
        ("https://h/?a", "https://h/?a&clickid=c1"),
        ("https://h/?a=?&b=/..#", "https://h/?a=?&b=/..&clickid=c1#"),
        ("https://h/#f", "https://h/?clickid=c1#f"),
        ("https://h#f?a=1#g", "https://h?clickid=c1#f?a=1#g"),
        ("https://h/?a=1#f", "https://h/?a=1&clickid=c1#f"),
        ("https://h/?#f", "https://h/?clickid=c1#f"),
        ("https://h/?s={subid0}", "https://h/?s=0&clickid=c1"),
        ("https://h/?clickid=x", "https://h/?clickid=x&clickid=c1"),
        (
            "https://h/%7Bclickid%7D",
            "https://h/%7Bclickid%7D?clickid=c1",
        ),
    ] {
        assert_eq!(target(template), expected, "{template}");
    }
}

#[test]
fn the_text_stays_as_it_was_written() {
    for text in [
        "HTTPS://Example.COM:443/%7e/../A//b/./?q=%2f+|'\"<>^`",
        "http://user:pass@[2001:db8::1]:8080/x?clickid={clickid}",
        "http://127.0.0.1:99?{clickid}",
        "https://xn--bcher-kva.example/{clickid}",
    ] {
        let url = TrackingUrl::parse(&format!(" \t{text}\r\n")).unwrap();
        assert_eq!(url.as_str(), text);
        let target = url.target(&VALUES);
        let kept = text.replace("{clickid}", "c1");
        assert!(target.starts_with(&kept), "{target}");
    }
}

#[test]
fn only_http_with_a_host_is_taken() {
    for text in [
        "",
        "x",
        "{clickid}",
        "javascript:alert(1)",
        "javascript://h/%0aalert(1)",
        "data:text/html,x",
        "ftp://h/",
        "httpss://h/",
        "//h/x",
        "/x",
        "https:h",
        "https:/h",
        "https:///h",
        "https:////h",
        "https://",
        "https://?a",
        "https://#a",
        "://h/",
    ] {
        assert_eq!(error(text), TrackingUrlError::NotHttp, "{text}");
    }
    for text in [
        "https://u@/x",
        "https://:80/x",
        "https://h:99999/",
        "https://h:x/",
        "https://[::1/",
        "https://a%00b/",
        "https://1.2.3.400/",
        "https://a|b/",
    ] {
        let error = error(text);
        assert!(
            matches!(error, TrackingUrlError::Invalid(_)),
            "{text}: {error:?}"
        );
    }
}

#[test]
fn a_visitor_does_not_choose_the_host() {
    for text in [
        "{source}://h/",
        "http{source}://h/",
        "https://{source}",
        "https://{source}/",
        "https://{source}.h/x",
        "https://h{source}",
        "https://h{source}?a",
        "https://h{source}#a",
        "https://h:{source}/",
        "https://{source}@h/",
        "https://u:{source}@h/",
        "https://[{source}]/",
    ] {
        let expected = TrackingUrlError::MacroInHost("source".to_owned());
        assert_eq!(error(text), expected, "{text}");
    }
    for text in [
        "https://h\\{source}",
        "https://h\\@{source}/",
        "https:\\\\h/",
        "https://h/a\\b",
    ] {
        assert_eq!(error(text), TrackingUrlError::Character('\\'), "{text}");
    }
}

#[test]
fn macros_are_exact() {
    for name in [
        "Clickid", "CLICKID", "click_id", " ", "", "subid", "subid5", "subid00", "a\"b", "\u{e9}",
    ] {
        let text = format!("https://h/?a={{{name}}}");
        let expected = match name {
            " " => TrackingUrlError::Character(' '),
            "\u{e9}" => TrackingUrlError::Character('\u{e9}'),
            _ => TrackingUrlError::UnknownMacro(name.to_owned()),
        };
        assert_eq!(error(&text), expected, "{text}");
    }
    for text in [
        "https://h/{",
        "https://h/}",
        "https://h/{clickid",
        "https://h/clickid}",
        "https://h/{{clickid}}",
        "https://h/{clickid}}",
        "https://h/}{clickid}",
        "https://h/{click{clickid}id}",
        "https://h/{clickid}{",
    ] {
        assert_eq!(error(text), TrackingUrlError::Brace, "{text}");
    }
}

#[test]
fn what_a_header_does_not_take_is_not_taken() {
    for character in [' ', '\t', '\n', '\r', '\0', '\u{7f}', 'ä', '\u{202e}'] {
        for text in [
            format!("https://h/a{character}b"),
            format!("https://h{character}b/"),
            format!("https:{character}//h/"),
        ] {
            assert_eq!(
                error(&text),
                TrackingUrlError::Character(character),
                "{text:?}"
            );
        }
    }
    let text = |length: usize| format!("https://h/{}", "x".repeat(length - 10));
    assert!(TrackingUrl::parse(&text(MAX_BYTES)).is_ok());
    assert!(TrackingUrl::parse(&format!(" {} ", text(MAX_BYTES))).is_ok());
    assert_eq!(error(&text(MAX_BYTES + 1)), TrackingUrlError::TooLong);
}

#[test]
fn the_messages_say_what_to_change() {
    for (text, words) in [
        ("ftp://h", "http://"),
        (
            "https://h/{foo}",
            "{foo} is not a macro; there are {clickid},",
        ),
        (
            "https://{source}/",
            "{source} must not stand before the path",
        ),
        ("https://h/a b", "' ' must be percent-encoded"),
        ("https://h/{", "%7B"),
        ("https://h:x/", "port"),
    ] {
        let message = error(text).to_string();
        assert!(message.contains(words), "{text}: {message}");
    }
}

#[test]
fn a_value_of_dots_does_not_climb() {
    for (template, source, expected) in [
        (
            "https://h/a/{source}/b",
            "..",
            "https://h/a/.._/b?clickid=c1",
        ),
        ("https://h/a/{source}", ".", "https://h/a/._?clickid=c1"),
        (
            "https://h/a/.{source}?x",
            ".",
            "https://h/a/.._?x&clickid=c1",
        ),
        (
            "https://h/a/%2E{source}#f",
            ".",
            "https://h/a/%2E._?clickid=c1#f",
        ),
        (
            "https://h/a/{source}%2e",
            ".",
            "https://h/a/.%2e_?clickid=c1",
        ),
        (
            "https://h/a/{source}{source}/",
            ".",
            "https://h/a/.._/?clickid=c1",
        ),
        // Written by the operator, but only a visitor's empty value makes it climb.
        ("https://h/a/..{source}/", "", "https://h/a/.._/?clickid=c1"),
        (
            "https://h/a/{source}/b",
            "...",
            "https://h/a/.../b?clickid=c1",
        ),
        (
            "https://h/a/{source}/b",
            "%2e%2e",
            "https://h/a/%252e%252e/b?clickid=c1",
        ),
        (
            "https://h/a/{source}/b",
            "../..",
            "https://h/a/..%2F../b?clickid=c1",
        ),
        ("https://h/a/{source}/b", "", "https://h/a//b?clickid=c1"),
        ("https://h/?a={source}", "..", "https://h/?a=..&clickid=c1"),
        ("https://h/?/{source}/", "..", "https://h/?/../&clickid=c1"),
        // The operator's own.
        (
            "https://h/a/../{source}",
            "x",
            "https://h/a/../x?clickid=c1",
        ),
    ] {
        let target = with_source(template, source);
        assert_eq!(target, expected, "{template} {source}");
    }
}

#[test]
fn long_values_are_not_cut() {
    let long = "€".repeat(341);
    let values = Macros {
        subids: [&long; 5],
        ..VALUES
    };
    let url = "https://h/?a={subid0}{subid1}{subid2}{subid3}{subid4}&c={clickid}";
    let target = TrackingUrl::parse(url).unwrap().target(&values);
    assert_eq!(target.len(), "https://h/?a=&c=c1".len() + 5 * 341 * 9);
}

/// A template and the path that its macros stand in, if any.
fn template() -> impl Strategy<Value = String> {
    let origin = prop::sample::select(vec![
        "http://h",
        "HTTPS://Track.Example:8443",
        "https://u:p@[::1]:99",
        "https://127.0.0.1",
        "http://xn--bcher-kva.example:80",
    ]);
    let piece = prop::sample::select(vec![
        "a",
        "B.c",
        ".",
        "..",
        "%2e",
        "%2E",
        "/",
        "/",
        "=",
        "?",
        "&",
        ":",
        "@",
        ";",
        "//",
        "%zz",
        "{clickid}",
        "{campaign_id}",
        "{site_id}",
        "{source}",
        "{subid0}",
        "{subid4}",
    ]);
    let part = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    let optional = |sign: &'static str| {
        let part = part.clone().prop_map(move |part| format!("{sign}{part}"));
        prop_oneof![Just(String::new()), part]
    };
    (origin, optional("/"), optional("?"), optional("#"))
        .prop_map(|(origin, path, query, fragment)| format!("{origin}{path}{query}{fragment}"))
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec![
            "", ".", "..", "...", "%2e", "%2e%2e", "/", "../..", "//evil.example", "\\", "@evil",
            "#", "?", "&a=b", "{clickid}", "\r\nX: y", " ", "+", "\0",
        ]).prop_map(str::to_owned),
        2 => any::<String>(),
        1 => "[./%2eE]{0,6}",
    ]
}

/// Whether a segment looks like the letter of a Windows drive, from which this reader of URLs, unlike browsers,
/// doesn't step up.
fn has_drive(target: &str) -> bool {
    let drive = |segment: &str| matches!(segment.as_bytes(), [letter, b':' | b'|'] if letter.is_ascii_alphabetic());
    target.split('/').any(drive)
}

/// The segments as a browser resolves them.
fn depth(url: &Url) -> usize {
    url.path_segments().map_or(0, Iterator::count)
}

proptest! {
    #[test]
    fn the_target_stays_at_its_host(
        template in template(),
        clickid in value(),
        site_id in value(),
        source in value(),
        subid in value(),
    ) {
        let url = TrackingUrl::parse(&template).unwrap();
        let values = Macros {
            clickid: &clickid,
            campaign_id: 7,
            site_id: &site_id,
            source: &source,
            subids: [&subid, "", "", "", &subid],
        };
        let target = url.target(&values);
        prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{target}");
        prop_assert!(!target.contains(['{', '}']), "{target}");

        let read = Url::parse(&target).unwrap();
        let mut plain = String::new();
        expand(&template, &mut plain, |_, plain| plain.push('x'));
        let written = Url::parse(&plain).unwrap();
        prop_assert_eq!(read.scheme(), written.scheme());
        prop_assert_eq!(read.host(), written.host());
        prop_assert_eq!(read.port_or_known_default(), written.port_or_known_default());
        prop_assert_eq!(read.username(), written.username());
        prop_assert_eq!(read.password(), written.password());
        if !has_drive(&target) && !has_drive(&plain) {
            prop_assert_eq!(depth(&read), depth(&written), "{} {}", &target, &plain);
        }
        prop_assert_eq!(read.fragment().is_some(), written.fragment().is_some());
        // What stands before the first macro is what was written.
        let head = template.split(['{', '#']).next().unwrap_or_default();
        if head.len() < template.len() {
            prop_assert!(target.starts_with(head), "{target}");
        }
        if !template.contains("{clickid}") {
            let last = read.query_pairs().last().unwrap();
            prop_assert_eq!((&*last.0, &*last.1), ("clickid", &*clickid));
        }
    }

    #[test]
    fn a_value_in_the_query_arrives_as_it_was(
        clickid in value(),
        source in value(),
        subids in prop::array::uniform5(value()),
        fragment in prop::sample::select(vec!["", "#", "#f", "#{source}?{subid0}"]),
    ) {
        let template = format!(
            "https://h/{{source}}?first=1&s={{source}}&c={{clickid}}&0={{subid0}}&1={{subid1}}\
             &2={{subid2}}&3={{subid3}}&4={{subid4}}&i={{campaign_id}}&last=2{fragment}"
        );
        let values = Macros {
            clickid: &clickid,
            campaign_id: i64::MAX,
            site_id: "",
            source: &source,
            subids: subids.each_ref().map(String::as_str),
        };
        let target = TrackingUrl::parse(&template).unwrap().target(&values);
        let read = Url::parse(&target).unwrap();
        let found: Vec<_> = read.query_pairs().collect();
        let id = i64::MAX.to_string();
        let expected = [
            ("first", "1"),
            ("s", &source),
            ("c", &clickid),
            ("0", &subids[0]),
            ("1", &subids[1]),
            ("2", &subids[2]),
            ("3", &subids[3]),
            ("4", &subids[4]),
            ("i", &id),
            ("last", "2"),
        ];
        let found: Vec<_> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_text_is_taken_or_refused(text in "[a-z{}:/?#@\\\\ .%é]{0,40}|https?://\\PC{0,40}") {
        if let Ok(url) = TrackingUrl::parse(&text) {
            let target = url.target(&VALUES);
            prop_assert!(Url::parse(&target).is_ok(), "{target}");
        }
    }
}
