#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::super::{BodyKind, Incoming, InvalidRevenue, Rules, hint, remarks, understand};
use super::MOST;

fn query(query: &str) -> Incoming<'_> {
    Incoming {
        query: query.as_bytes(),
        body: None,
    }
}

fn with_body(kind: BodyKind, body: &str) -> Incoming<'_> {
    Incoming {
        query: b"",
        body: Some((kind, body.as_bytes())),
    }
}

fn refused(incoming: &Incoming<'_>) -> Option<String> {
    let refusal = understand(incoming, &Rules::default()).unwrap_err();
    hint(incoming, &refusal)
}

fn meant(sent: &str, name: &str) -> String {
    format!("you sent \"{sent}\"; did you mean \"{name}\"?")
}

#[test]
fn names_that_somebody_else_uses() {
    for (sent, name) in [
        ("cid", "clickid"),
        ("clkid", "clickid"),
        ("click", "clickid"),
        ("ClickID", "clickid"),
        ("CLICK_ID", "clickid"),
        ("click-id", "clickid"),
        ("subid", "clickid"),
        ("sub_id", "clickid"),
        ("s2s_id", "clickid"),
        ("aff_sub", "clickid"),
        ("clikid", "clickid"),
        ("clikcid", "clickid"),
        ("clickidd", "clickid"),
        ("amount", "revenue"),
        ("sale_amount", "revenue"),
        ("Revenue", "revenue"),
        ("pay_out", "payout"),
        ("revenu", "revenue"),
        ("curr", "currency"),
        ("ccy", "currency"),
        ("currancy", "currency"),
        ("order_id", "txid"),
        ("orderid", "txid"),
        ("TransactionId", "transaction_id"),
        ("tx-id", "txid"),
        ("event_name", "event"),
        ("goal_id", "event"),
        ("state", "status"),
        ("conversion_status", "status"),
        ("sub1", "subid1"),
        ("sub5", "subid0"),
        ("subid_1", "subid1"),
        ("aff_sub3", "subid3"),
    ] {
        let text = format!("{sent}=7");
        let hints = remarks(&query(&text)).hints;
        assert_eq!(hints, [meant(sent, name)], "{sent}");
        let text = format!(r#"{{"{sent}":"7"}}"#);
        let hints = remarks(&with_body(BodyKind::Json, &text)).hints;
        assert_eq!(hints, [meant(sent, name)], "{sent} in JSON");
    }
}

#[test]
fn names_that_mean_nothing_to_us() {
    for sent in [
        "foo",
        "x",
        "id",
        "sid",
        "uid",
        "pid",
        "host",
        "post",
        "kind",
        "sub9",
        "click_time",
        "ip",
        "country",
        "gclid",
        "sig",
        "é",
        "",
    ] {
        let text = format!("{sent}=7");
        assert_eq!(remarks(&query(&text)).hints, [""; 0], "{sent}");
    }
    let long = "click_id".repeat(100_000);
    assert_eq!(remarks(&query(&long)).hints, [""; 0]);
}

#[test]
fn a_field_that_has_a_value_is_not_meant() {
    for sent in [
        "clickid=a&cid=b",
        "click_id=a&ClickID=b",
        "clickid=a&payout=1&amount=2&Revenue=3",
        "clickid=a&cost=0&revenu=5",
        "clickid=a&tid=5&order_id=6",
        "clickid=a&goal=x&event_name=y",
        "cid=&order_id=+&amount[]=5",
    ] {
        assert_eq!(remarks(&query(sent)).hints, [""; 0], "{sent}");
    }
    // Another meaning of the same word is still free.
    let hints = remarks(&query("clickid=a&external_id=5&subid=6")).hints;
    assert_eq!(
        hints,
        [meant("subid", "subid0"), meant("external_id", "txid")]
    );
    let hints = remarks(&query("external_id=5")).hints;
    assert_eq!(hints, [meant("external_id", "clickid")]);
}

#[test]
fn the_likeliest_name_is_told() {
    for sent in ["cid=1&clikid=2&Click-Id=3", "Click-Id=3&cid=1&clikid=2"] {
        assert_eq!(remarks(&query(sent)).hints, [meant("Click-Id", "clickid")]);
    }
    let hints = remarks(&query("cid=1&clk=2")).hints;
    assert_eq!(hints, [meant("cid", "clickid")]);
}

#[test]
fn names_of_bodies_count_as_those_of_the_query() {
    let form = with_body(BodyKind::Form, "cid=1");
    assert_eq!(refused(&form), Some(meant("cid", "clickid")));
    for (body, expected) in [
        (r#"{"cid":1}"#, true),
        (r#"{"cid":-1}"#, true),
        (r#"{"cid":"a"}"#, true),
        (r#"{"c\u0069d":"a"}"#, true),
        (r#"{"cid":" "}"#, false),
        (r#"{"cid":null}"#, false),
        (r#"{"cid":true}"#, false),
        (r#"{"cid":["a"]}"#, false),
        (r#"{"cid":{"a":1}}"#, false),
    ] {
        let hint = refused(&with_body(BodyKind::Json, body));
        assert_eq!(hint.is_some(), expected, "{body}");
    }
}

#[test]
fn what_the_refusal_asks_for_comes_first() {
    for (sent, hint) in [
        ("", None),
        ("revenue=1", None),
        ("clickid=", None),
        ("clickid=a%00", None),
        ("clickid=a&revenue=-1", None),
        ("clickid=a&revenue=abc", None),
        (
            "amount=1&cid=a",
            Some("you sent \"cid\"; did you mean \"clickid\"?"),
        ),
        (
            "amount=1",
            Some("you sent \"amount\"; did you mean \"revenue\"?"),
        ),
        (
            "revenue=1&amp;clickid=a",
            Some("you sent \"amp;clickid\"; write & and not &amp; before \"clickid\""),
        ),
        (
            "clickid[]=a",
            Some("send clickid as one plain value, without brackets: clickid=…"),
        ),
        (
            "clickid=a&revenue=1,50",
            Some("send revenue \"1,50\" as 1.50"),
        ),
        (
            "clickid=a&payout=1.000,5&currency=EUR&order_id=7",
            Some("send payout \"1.000,5\" as 1000.5"),
        ),
        (
            "clickid=a&cost=1,000",
            Some("send cost \"1,000\" as 1000 or as 1.000, whichever it is"),
        ),
        (
            "clickid=a&revenue=$5",
            Some("send revenue \"$5\" as 5, and the code of its currency as currency"),
        ),
        (
            "clickid=a&revenue=5%E2%82%AC",
            Some("send revenue \"5€\" as 5 with currency=EUR"),
        ),
        (
            "clickid=a&revenue=5+usd&currency=USD",
            Some("send revenue \"5 usd\" as 5"),
        ),
        (
            "clickid=a&revenue={sum}&ccy=EUR",
            Some(
                "the tracker that sends this did not replace the macro \"{sum}\" in revenue; look \
                 up in its documentation what it calls this value, and put that into its postback \
                 URL",
            ),
        ),
    ] {
        assert_eq!(refused(&query(sent)).as_deref(), hint, "{sent}");
    }
    let currency = refused(&query("clickid=a&revenue=1&currency={c}&txid={t}")).unwrap();
    assert!(currency.contains("\"{c}\" in currency"), "{currency}");
}

#[test]
fn a_form_that_is_sent_as_json() {
    let form = "the body looks like a form; send it with \
                Content-Type: application/x-www-form-urlencoded";
    for (body, hint) in [
        ("clickid=a&revenue=1", Some(form)),
        ("{", None),
        ("[1]", None),
        ("=a", None),
        ("a b=c", None),
        ("", None),
    ] {
        let hinted = refused(&with_body(BodyKind::Json, body));
        assert_eq!(hinted.as_deref(), hint, "{body}");
    }
    let many = "a=1&".repeat(5_000);
    assert_eq!(refused(&query(&many)), None);
}

#[test]
fn a_good_postback_has_hints_where_something_may_be_meant_otherwise() {
    let hints = remarks(&query("clickid=a&revenue=1&currency=USD&txid=5&foo=bar")).hints;
    assert_eq!(hints, [""; 0]);
    let hints = remarks(&query("clickid=a&subid0=[S]&txid={t}&event={e}&status[]=x")).hints;
    let parts = ["[S]", "{t}", "{e}", "send status as one plain value"];
    assert_eq!(hints.len(), parts.len());
    for (hint, part) in hints.iter().zip(parts) {
        assert!(hint.contains(part), "{hint}");
    }
    // Where the rules let it pass, what is wrong with it is still told.
    let rules = Rules {
        invalid_revenue: InvalidRevenue::Zero,
        ..Rules::default()
    };
    let odd = query("clickid=a&revenue=1,50");
    assert!(understand(&odd, &rules).is_ok());
    assert_eq!(remarks(&odd).hints, ["send revenue \"1,50\" as 1.50"]);
}

#[test]
fn hints_and_ignored_names_are_few_and_short() {
    let all = "subid0={a}&subid1={a}&subid2={a}&subid3={a}&subid4={a}&txid={a}&currency={a}&cid=1";
    let hints = remarks(&query(all)).hints;
    assert_eq!(hints.len(), MOST);
    assert_eq!(hints[0], meant("cid", "clickid"));

    let long = format!("clickid=a&{}=1", "é".repeat(70));
    assert_eq!(remarks(&query(&long)).ignored, ["é".repeat(64)]);
    let many: String = (0..100).map(|n| format!("x{}=&", n % 50)).collect();
    let ignored = remarks(&query(&many)).ignored;
    assert_eq!(ignored.len(), 20);
    assert_eq!((&*ignored[0], &*ignored[19]), ("x0", "x19"));
    let few = remarks(&query("foo=1&clickid=a&bar[]=2&foo=3&sig=4&%ff=5")).ignored;
    assert_eq!(few, ["foo", "bar", "\u{fffd}"]);
    let json = with_body(BodyKind::Json, r#"{"clickid":1,"other":{},"foo":null}"#);
    assert_eq!(remarks(&json).ignored, ["other", "foo"]);
}

#[test]
fn the_cost_is_bounded() {
    let names: String = (0..4_000).map(|n| format!("clickix{n}=1&")).collect();
    assert_eq!(remarks(&query(&names)).hints, [""; 0]);
    for member in [r#""clickix":1,"#, r#""a":1,"#, r#""revenve":1,"#] {
        let body = format!("{{{}\"a\":1}}", member.repeat(1_000_000 / member.len()));
        let hint = refused(&with_body(BodyKind::Json, &body));
        assert_eq!(hint.is_some(), !member.contains("\"a\""), "{member}");
    }
    let value = format!("clickid=a&revenue={}", "1,".repeat(500_000));
    assert_eq!(refused(&query(&value)), None);
}
