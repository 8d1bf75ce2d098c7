//! What is refused, and that the refusal names the key.

use super::*;

fn checked(toml: &str, role: Role) -> anyhow::Result<Settings> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("postern.toml");
    std::fs::write(&path, toml)?;
    Settings::load(Some(&path), role)
}

fn refused(toml: &str, role: Role) -> String {
    match checked(toml, role) {
        Ok(_) => panic!("{toml} was taken"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn defaults_serve_an_ingress() {
    let settings = checked("", Role::Ingress).unwrap();
    assert_eq!(settings.http_listen.to_string(), "0.0.0.0:8080");
    assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:9100");
    assert_eq!(settings.kafka.client.brokers, "localhost:9092");
    assert_eq!(settings.kafka.plan.replication, 3);
    assert!(settings.ingress.clicks_token.is_none());
}

#[test]
fn refusals_name_the_key() {
    for (toml, role, key) in [
        ("", Role::Consumer, "store.url"),
        ("[http]\nlisen = 1", Role::Ingress, "http.lisen"),
        (
            "[answer]\ntimeout = \"1ms\"",
            Role::Ingress,
            "answer.timeout",
        ),
        ("[answer]\ntimeout = 2", Role::Ingress, "answer.timeout"),
        ("[clicks]\ntoken = \"short\"", Role::Ingress, "clicks.token"),
        (
            "[clicks]\ntoken = \"0123456789abcdef\"\ntoken_file = \"x\"",
            Role::Ingress,
            "clicks.token_file",
        ),
        (
            "[clicks]\nredirect_timeout = \"9ms\"",
            Role::Ingress,
            "clicks.redirect_timeout",
        ),
        (
            "[clicks]\nredirect_timeout = \"11s\"",
            Role::Ingress,
            "clicks.redirect_timeout",
        ),
        (
            "[clicks]\ntoken_file = \"/nowhere\"",
            Role::Ingress,
            "clicks.token_file",
        ),
        ("[kafka]\npartitions = 0", Role::Ingress, "kafka.partitions"),
        (
            "[kafka.options]\nacks = \"1\"",
            Role::Ingress,
            "kafka.options.acks",
        ),
        (
            "[kafka.options]\nenable.idempotence = false",
            Role::Ingress,
            "kafka.options.enable.idempotence",
        ),
        (
            "[kafka.options]\nno.such.option = 1",
            Role::Ingress,
            "no.such.option",
        ),
        (
            "[consumer]\nsession_timeout = \"1s\"",
            Role::Ingress,
            "consumer.session_timeout",
        ),
        (
            "[http]\ntrusted_proxies = [\"here\"]",
            Role::Ingress,
            "http.trusted_proxies",
        ),
        (
            "[revenue]\ninvalid = \"maybe\"",
            Role::Ingress,
            "revenue.invalid",
        ),
        (
            "[status.words]\nlead = \"fine\"",
            Role::Ingress,
            "status.words.lead",
        ),
        (
            // 65 bytes
            "[status.words]\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx \
             = \"approved\"",
            Role::Ingress,
            "status.words: the status word",
        ),
    ] {
        let message = refused(toml, role);
        assert!(message.contains(key), "{toml}: {message}");
    }
}

#[test]
fn status_words_are_added_to_the_common_ones() {
    use postern_core::request::{Incoming, understand};
    let toml = "[status.words]\nlead = \"approved\"\ndepot = \"pending\"";
    let settings = checked(toml, Role::Ingress).unwrap();
    let status = |word: &str| {
        let query = format!("clickid=a&status={word}");
        let incoming = Incoming {
            query: query.as_bytes(),
            body: None,
        };
        let fields = understand(&incoming, &settings.ingress.rules).unwrap();
        fields.status.unwrap().status.map(|status| status.word())
    };
    assert_eq!(status("LEAD"), Some("approved"));
    assert_eq!(status("depot"), Some("pending"));
    assert_eq!(status("trash"), Some("rejected"));
    assert_eq!(status("nothing"), None);
}

#[test]
#[cfg(feature = "standalone")]
fn standalone_brings_its_own_kafka_and_store() {
    let settings = checked("data_dir = \"/tmp/x\"", Role::Standalone).unwrap();
    assert_eq!(settings.store.url.expose(), "sqlite:/tmp/x/postern.db");
    assert!(settings.kafka.create_topics);
    let message = refused("[kafka]\nbrokers = \"a:1\"", Role::Standalone);
    assert!(message.contains("kafka.brokers"), "{message}");
}

#[test]
fn what_is_kept_is_kept_long_enough() {
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let kept = checked("[store]\nurl = \"sqlite:x\"", Role::Consumer).unwrap();
    let kept = kept.consumer.retention;
    assert_eq!(
        [kept.clicks, kept.log, kept.unmatched],
        [days(45), days(90), days(7)]
    );
    for (wrong, named) in [
        ("log = \"13d\"", "kafka.postbacks_retention"),
        ("unmatched = \"91d\"", "retention.unmatched"),
        ("clicks = \"1m\"", "retention.clicks"),
    ] {
        let toml = format!("[store]\nurl = \"sqlite:x\"\n[retention]\n{wrong}");
        let message = refused(&toml, Role::Consumer);
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn a_spool_has_a_size_worth_having_or_none() {
    let bytes = |toml| checked(toml, Role::Ingress).unwrap().spool_bytes;
    assert_eq!(bytes(""), Some(1024 * 1024 * 1024));
    assert_eq!(bytes("[spool]\nmax_bytes = \"1MiB\""), Some(1024 * 1024));
    assert_eq!(bytes("[spool]\nmax_bytes = 0"), None);
    let message = refused("[spool]\nmax_bytes = 1000", Role::Ingress);
    assert!(message.contains("spool.max_bytes"), "{message}");
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let toml = "[clicks]\ntoken = \"top-secret-token-1\"\n[store]\nurl = \
                \"postgres://u:top-secret-pass@h/d\"\n[kafka.options]\n\"sasl.password\" = \
                \"top-secret-sasl\"";
    let text = format!("{:?}", checked(toml, Role::Consumer).unwrap());
    assert!(!text.contains("top-secret"), "{text}");
}
