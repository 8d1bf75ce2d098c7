use super::*;

fn of(query: &str, body: Option<(BodyKind, &str)>) -> Option<(String, String)> {
    let incoming = Incoming {
        query: query.as_bytes(),
        body: body.map(|(kind, body)| (kind, body.as_bytes())),
    };
    read(&incoming).map(|signature| (signature.sig, signature.query))
}

fn check(query: &str, body: Option<(BodyKind, &str)>, sig: &str, canonical: &str) {
    let expected = Some((sig.to_owned(), canonical.to_owned()));
    assert_eq!(of(query, body), expected, "{query} {body:?}");
}

#[test]
fn without_a_sig_there_is_none() {
    for query in [
        "",
        "clickid=a&revenue=1",
        "signature=1&sig.=1&sig[]=1&Sig=1&x=sig",
        "sig%00=1&+sig=1&=sig",
    ] {
        assert_eq!(of(query, None), None, "{query}");
        assert_eq!(of("", Some((BodyKind::Form, query))), None, "{query}");
    }
    for body in [
        "{}",
        r#"{"clickid":"sig"}"#,
        r#"{"sig":null}"#,
        r#"{"sig":["x"]}"#,
        r#"{"sig":"x","sig":true}"#,
        r#"{"a":{"sig":"x"}}"#,
        r#"{"a":"\u0041"}"#,
    ] {
        assert_eq!(of("", Some((BodyKind::Json, body))), None, "{body}");
    }
}

#[test]
fn a_query_is_signed_as_it_was_sent() {
    check("sig=ab&clickid=a&b=2", None, "ab", "b=2&clickid=a");
    check("%73ig=%61b&clickid=a", None, "ab", "clickid=a");
    check("a=1&sig", None, "", "a=1");
    check("sig=1&a=+%2b%zz&sig=2", None, "2", "a=%20%2B%25zz");
    // Names aren't mangled, arrays and names without a meaning are part of it.
    check(
        "sig=x&click.id=1&a[]=2&a[]=1&x&&b=1&b=0&=n",
        None,
        "x",
        "=n&a%5B%5D=2&a%5B%5D=1&b=1&b=0&click.id=1&x=",
    );
    check("sig=x", None, "x", "");
}

#[test]
fn the_body_comes_after_the_query() {
    let form = |body| Some((BodyKind::Form, body));
    check("b=1&c=1", form("sig=x&b=0&a=1"), "x", "a=1&b=1&b=0&c=1");
    check("sig=q&a=1", form("sig=b"), "b", "a=1");
    check("sig=q&a=1", form("sig="), "", "a=1");
    check("sig=q&a=1", form("b=2"), "q", "a=1&b=2");
}

#[test]
fn of_json_strings_and_numbers_are_signed() {
    let json = |body| Some((BodyKind::Json, body));
    check(
        "a=1",
        json("\u{feff}{\"sig\":\"x\",\"revenue\":1.50,\"b\":\"\\u00e9 \\n\",\"a\":0}"),
        "x",
        "a=1&a=0&b=%C3%A9%20%0A&revenue=1.50",
    );
    check("", json(r#"{"s\u0069g":"x","a":1e400}"#), "x", "a=1e400");
    check("sig=q&a=1", json(r#"{"sig":null}"#), "q", "a=1");
    check("", json(r#"{"sig":7,"a":1}"#), "7", "a=1");
    check(
        "",
        json(r#"{"sig":"x","a":null,"b":true,"c":[1],"d":{"sig":"y"},"e":""}"#),
        "x",
        "e=",
    );
}

#[test]
fn what_is_not_signed_takes_nothing_signed_away() {
    let takes = |later: &str, canonical: &str| {
        let body = format!(r#"{{"sig":"x","txid":"a",{later}}}"#);
        check("", Some((BodyKind::Json, &body)), "x", canonical);
    };
    takes(r#""b":1"#, "b=1&txid=a");
    takes(r#""txid":null"#, "");
    takes(r#""txid":[]"#, "");
    takes(r#""txid":true,"txid":"b""#, "txid=b");
    takes(r#""txid":"b","txid":"c""#, "txid=a&txid=b&txid=c");
}

#[test]
fn what_is_no_text_leaves_nothing_to_verify() {
    let json = |body| Some((BodyKind::Json, body));
    check("", json(r#"{"sig":"x","a":"\ud800","b":1}"#), "x", "");
    check("sig=x&a=1", json(r#"{"b":"#), "x", "");
    check("sig=x&a=1", json("[1]"), "x", "");
    check("sig=x&a=1", json("{} {}"), "x", "");
}

#[test]
fn what_is_too_large_leaves_nothing_to_verify() {
    let long = format!("sig=x&a={}", "%".repeat(60_000));
    check(&long, None, "x", "");
}

#[test]
fn the_cost_is_linear() {
    let member = r#""a":1,"a":null,"#;
    let body = format!("{{{}\"sig\":\"x\"}}", member.repeat(60_000));
    check("", Some((BodyKind::Json, &body)), "x", "");
    let body = format!("{{\"a\":\"{}\",\"sig\":\"x\"}}", "\\u0041".repeat(150_000));
    check("", Some((BodyKind::Json, &body)), "x", "");
}
