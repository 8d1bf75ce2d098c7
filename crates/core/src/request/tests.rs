#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::status::Status;

fn with(rules: Rules, query: &str, body: Option<(BodyKind, &str)>) -> Result<Fields, Refusal> {
    let body = body.map(|(kind, body)| (kind, body.as_bytes()));
    understand(
        &Incoming {
            query: query.as_bytes(),
            body,
        },
        &rules,
    )
}

fn get(query: &str) -> Result<Fields, Refusal> {
    with(Rules::default(), query, None)
}

fn mode(invalid_revenue: InvalidRevenue, query: &str) -> Fields {
    let rules = Rules {
        invalid_revenue,
        ..Rules::default()
    };
    with(rules, query, None).unwrap()
}

fn codes(fields: &Fields) -> Vec<(&str, &str)> {
    fields
        .warnings
        .iter()
        .map(|warning| (&*warning.code, &*warning.parameter))
        .collect()
}

fn refused(query: &str) -> &'static str {
    get(query).unwrap_err().code()
}

#[test]
fn understands_the_full_postback() {
    let fields = get(
        "clickid=abc&revenue=1.20&currency=eur&txid=T+1&subid0=US&subid1=a%26b&subid4=&other=x",
    )
    .unwrap();
    assert_eq!(
        fields,
        Fields {
            clickid: ClickId::parse(b"abc").unwrap(),
            revenue: Revenue::parse("1.2").unwrap(),
            revenue_raw: Some("1.20".into()),
            currency: Currency::normalize("EUR"),
            currency_sent: true,
            external_id: Some("T 1".into()),
            subids: [
                Some("US".into()),
                Some("a&b".into()),
                None,
                None,
                Some(String::new())
            ],
            event: None,
            status: None,
            signature: None,
            warnings: vec![],
        }
    );
}

#[test]
fn defaults_where_nothing_or_blanks_were_sent() {
    for query in [
        "clickid=a",
        "clickid=a&revenue=+&currency=%09&txid=++",
        "clickid=+a%0A&tid=",
    ] {
        let fields = get(query).unwrap();
        assert_eq!(fields.clickid.as_str(), "a");
        assert_eq!((fields.revenue, fields.revenue_raw), (Revenue::ZERO, None));
        assert_eq!(
            (fields.currency, fields.currency_sent),
            (Currency::USD, false)
        );
        assert_eq!(fields.external_id, None);
        assert_eq!(fields.subids, [const { None }; 5]);
        assert_eq!(fields.warnings, []);
    }
}

#[test]
fn the_first_alias_with_a_value_wins() {
    assert_eq!(get("click_id=b&clickid=a").unwrap().clickid.as_str(), "a");
    assert_eq!(get("click_id=b&clickid=+").unwrap().clickid.as_str(), "b");
    assert_eq!(get("clickid[]=a&click_id=b").unwrap().clickid.as_str(), "b");
    for (query, micros) in [
        ("cost=3&payout=2&revenue=1", 1_000_000),
        ("cost=3&payout=2&revenue=", 2_000_000),
        ("cost=3&payout=+&revenue[]=1", 3_000_000),
        ("cost=3&revenue=0", 0),
    ] {
        assert_eq!(
            get(&format!("clickid=a&{query}")).unwrap().revenue.micros(),
            micros
        );
    }
    let external = |query: &str| get(&format!("clickid=a&{query}")).unwrap().external_id;
    assert_eq!(external("transaction_id=3&tid=2&txid=1").unwrap(), "1");
    assert_eq!(external("transaction_id=3&tid=2&txid=").unwrap(), "2");
    assert_eq!(external("transaction_id=+3").unwrap(), " 3");
}

#[test]
fn a_clickid_must_be_one() {
    for query in [
        "",
        "revenue=1",
        "clickid=",
        "clickid=+%09",
        "clickid[]=a",
        "Clickid=a",
    ] {
        assert_eq!(get(query).unwrap_err(), Refusal::MissingClickid, "{query}");
    }
    for query in ["clickid=a%00", "clickid=a%0Ab", "clickid=%ff"] {
        assert_eq!(refused(query), "invalid_clickid", "{query}");
    }
    assert_eq!(
        refused(&format!("click_id={}", "x".repeat(256))),
        "invalid_clickid"
    );
    assert!(get(&format!("clickid=+{}+", "x".repeat(255))).is_ok());
}

#[test]
fn a_wrong_revenue_is_refused_with_its_value() {
    for value in [
        "1,50",
        "abc",
        "NaN",
        "INF",
        "0x1A",
        "1.000,00",
        "$5",
        "%E2%82%AC5",
        "%ff",
    ] {
        assert_eq!(
            refused(&format!("clickid=a&payout={value}")),
            "invalid_revenue",
            "{value}"
        );
    }
    let message = get("clickid=a&payout=1,50").unwrap_err().message();
    assert!(
        message.contains(r#"payout "1,50" is not a decimal"#),
        "{message}"
    );
    let message = get("clickid=a&revenue=-1").unwrap_err().message();
    assert!(message.contains(r#""-1" is negative"#), "{message}");
    let message = get("clickid=a&revenue=1e13").unwrap_err().message();
    assert!(message.contains("over the limit"), "{message}");
}

#[test]
fn a_wrong_revenue_can_be_counted_as_zero() {
    for value in ["1,50", "abc", "-1", "1e99"] {
        let fields = mode(InvalidRevenue::Zero, &format!("clickid=a&revenue={value}"));
        assert_eq!(fields.revenue, Revenue::ZERO);
        assert_eq!(fields.revenue_raw.as_deref(), Some(value));
        assert_eq!(codes(&fields), [("invalid_revenue", "revenue")]);
    }
    let fields = mode(InvalidRevenue::Zero, "clickid=a&revenue=1.5");
    assert_eq!(
        (fields.revenue.micros(), fields.warnings),
        (1_500_000, vec![])
    );
}

#[test]
fn a_wrong_revenue_can_be_read_as_php_does() {
    for (value, micros) in [
        ("1,50", 1_000_000),
        ("abc", 0),
        ("2.5USD", 2_500_000),
        ("-1", 0),
        ("-1x", 0),
        ("1e99", 0),
        ("1%ff", 1_000_000),
    ] {
        let fields = mode(InvalidRevenue::Php, &format!("clickid=a&cost={value}"));
        assert_eq!(fields.revenue.micros(), micros, "{value}");
        assert!(fields.revenue_raw.is_some());
        assert_eq!(codes(&fields), [("invalid_revenue", "cost")]);
    }
    let message = &mode(InvalidRevenue::Php, "clickid=a&revenue=1,50").warnings[0].message;
    assert_eq!(
        message,
        r#"revenue "1,50" is not a decimal number; counted as 1"#
    );
}

#[test]
fn the_raw_revenue_is_kept_where_it_differs() {
    for (sent, raw) in [
        ("1.2", None),
        ("0", None),
        ("1.20", Some("1.20")),
        ("+1.2", Some(" 1.2")),
        ("0.30000000000000004", Some("0.30000000000000004")),
        ("1e1", Some("1e1")),
    ] {
        let fields = get(&format!("clickid=a&revenue={sent}")).unwrap();
        assert_eq!(fields.revenue_raw.as_deref(), raw, "{sent}");
    }
    let long = format!("clickid=a&revenue=1{}", "x".repeat(5_000));
    assert_eq!(
        mode(InvalidRevenue::Php, &long).revenue_raw.unwrap().len(),
        STORED_BYTES
    );
}

#[test]
fn macros_are_refused_where_they_matter() {
    for query in [
        "clickid={clickid}",
        "clickid=%7Bclickid%7D",
        "clickid=%257Bclickid%257D&click_id=a",
        "clickid=a&revenue=${X}",
        "clickid=a&payout=##P##",
        "clickid=a&revenue=1&currency={currency}",
    ] {
        assert_eq!(refused(query), "unresolved_macro", "{query}");
    }
    let rules = Rules {
        invalid_revenue: InvalidRevenue::Php,
        ..Rules::default()
    };
    let refusal = with(rules, "clickid=a&payout={payout}", None).unwrap_err();
    assert_eq!(refusal, Refusal::unresolved("payout", b"{payout}"));
}

#[test]
fn macros_are_accepted_where_they_do_not_matter() {
    let fields = get("clickid=a&subid0={s}&subid3=[S]&txid={{t}}&tid=5&currency={c}").unwrap();
    assert_eq!(fields.subids[0].as_deref(), Some("{s}"));
    assert_eq!(fields.subids[3].as_deref(), Some("[S]"));
    assert_eq!(fields.external_id.as_deref(), Some("5"));
    assert_eq!(
        (fields.currency.clone(), fields.currency_sent),
        (Currency::USD, false)
    );
    assert_eq!(
        codes(&fields),
        [
            ("unresolved_macro", "currency"),
            ("unresolved_macro", "txid"),
            ("unresolved_macro", "subid0"),
            ("unresolved_macro", "subid3"),
        ]
    );
    assert_eq!(get("clickid=a&txid={t}").unwrap().external_id, None);
}

#[test]
fn long_texts_are_cut_with_a_warning() {
    let fields = get(&format!(
        "clickid=a&subid2={0}&transaction_id={0}",
        "x".repeat(1_025)
    ))
    .unwrap();
    assert_eq!(fields.subids[2].as_ref().unwrap().len(), STORED_BYTES);
    assert_eq!(fields.external_id.as_ref().unwrap().len(), STORED_BYTES);
    assert_eq!(
        codes(&fields),
        [("truncated", "transaction_id"), ("truncated", "subid2")]
    );
    let fields = get("clickid=a&subid0=a%00%ff").unwrap();
    assert_eq!(fields.subids[0].as_deref(), Some("a\u{fffd}\u{fffd}"));
    assert_eq!(fields.warnings, []);
}

#[test]
fn the_body_wins_name_by_name() {
    let form = |query, body| with(Rules::default(), query, Some((BodyKind::Form, body)));
    let fields = form("clickid=q&revenue=1&subid0=q&subid1=q", "clickid=b&subid0=").unwrap();
    assert_eq!(fields.clickid.as_str(), "b");
    assert_eq!(fields.revenue.micros(), 1_000_000);
    assert_eq!(fields.subids[0].as_deref(), Some(""));
    assert_eq!(fields.subids[1].as_deref(), Some("q"));
    // By name, then by alias: the query's clickid stands before the body's click_id.
    assert_eq!(
        form("clickid=q", "click_id=b").unwrap().clickid.as_str(),
        "q"
    );
    assert_eq!(
        form("clickid=q&click_id=r", "clickid=")
            .unwrap()
            .clickid
            .as_str(),
        "r"
    );
    // What counts as absent doesn't win.
    let fields = form("clickid=q", "clickid[]=b").unwrap();
    assert_eq!((fields.clickid.as_str(), fields.warnings.len()), ("q", 0));

    let json = |query, body| with(Rules::default(), query, Some((BodyKind::Json, body)));
    let body = r#"{"clickid":7,"revenue":1.50,"subid0":null,"subid1":[1]}"#;
    let fields = json("clickid=q&revenue=x&subid0=q", body).unwrap();
    assert_eq!(fields.clickid.as_str(), "7");
    assert_eq!(fields.revenue_raw.as_deref(), Some("1.50"));
    assert_eq!(fields.subids[0].as_deref(), Some("q"));
    assert_eq!(fields.subids[1], None);
    assert_eq!(codes(&fields), [("ignored_value", "subid1")]);
    assert_eq!(json("clickid=q", "{").unwrap_err().code(), "malformed_json");
    assert_eq!(json("", "{}").unwrap_err(), Refusal::MissingClickid);
}

#[test]
fn too_many_parameters_are_refused() {
    let many = "a=1&".repeat(MAX_PARAMETERS);
    assert_eq!(refused(&format!("{many}clickid=a")), "too_many_parameters");
    assert!(get(&format!("clickid=a&{}", &many[4..])).is_ok());
}

#[test]
fn events_and_statuses_are_kept_as_sent_and_warn_of_nothing() {
    let fields = get("clickid=a&goal=+Lead+&event=&type=SALE&status={status}").unwrap();
    assert_eq!(fields.event.as_deref(), Some("Lead"));
    let said = fields.status.unwrap();
    assert_eq!(
        (said.word.as_str(), said.status),
        ("SALE", Some(Status::Approved))
    );
    let fields = get("clickid=a&event[]=x&status[]=y&goal={goal}&type=odd").unwrap();
    assert_eq!(fields.event, None);
    assert_eq!(fields.status.unwrap().status, None);
    assert_eq!(fields.warnings, []);
    let long = format!("clickid=a&event={}", "é".repeat(200));
    let fields = get(&long).unwrap();
    assert_eq!(fields.event.unwrap().len(), 254);
    assert_eq!(fields.warnings, []);
}
