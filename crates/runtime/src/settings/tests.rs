#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    http: Http,
    kafka: Kafka,
    clicks: Clicks,
    store: Option<Store>,
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    listen: String,
    always_200: bool,
    trusted_proxies: Vec<String>,
    ports: Vec<u16>,
    timeout: Span,
    max_body: Size,
    mode: Mode,
    connections: u32,
    ratio: f64,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Verdict,
    Accepted,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".into(),
            always_200: false,
            trusted_proxies: vec![],
            ports: vec![],
            timeout: Span::from_secs(2),
            max_body: Size::mib(1),
            mode: Mode::Verdict,
            connections: 10,
            ratio: 0.5,
        }
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Kafka {
    options: Options,
    raw: serde_json::Value,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Clicks {
    token: Option<Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Store {
    #[expect(dead_code, reason = "only its being there counts")]
    url: String,
}

fn read(toml: &str, env: &[(&str, &str)]) -> Result<Sample, SettingsError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("postern.toml"), toml).unwrap();
    let env = env
        .iter()
        .map(|(k, v)| (OsString::from(k), OsString::from(v)));
    load_from(None, "POSTERN", dir.path(), env)
}

fn message(toml: &str, env: &[(&str, &str)]) -> String {
    read(toml, env).unwrap_err().to_string()
}

#[test]
fn defaults_then_file_then_environment() {
    let sample = read("", &[]).unwrap();
    assert_eq!(sample.http.listen, "0.0.0.0:8080");
    let toml = "[http]\nlisten = \"a\"\nconnections = 7\ntimeout = \"500ms\"";
    let sample = read(toml, &[("POSTERN__HTTP__LISTEN", "b")]).unwrap();
    assert_eq!(sample.http.listen, "b");
    assert_eq!(sample.http.connections, 7);
    assert_eq!(sample.http.timeout.0, Duration::from_millis(500));
}

#[test]
fn the_environment_takes_the_type_that_is_asked_for() {
    let sample = read(
        "[http]\ntrusted_proxies = [\"x\"]",
        &[
            ("POSTERN__HTTP__LISTEN", "8080"),
            ("POSTERN__HTTP__ALWAYS_200", "true"),
            ("POSTERN__HTTP__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
            ("POSTERN__HTTP__PORTS", "1,2"),
            ("POSTERN__HTTP__MAX_BODY", "16KiB"),
            ("POSTERN__HTTP__MODE", "accepted"),
            ("POSTERN__HTTP__CONNECTIONS", " 12 "),
            ("POSTERN__HTTP__RATIO", "0.25"),
            ("POSTERN__CLICKS__TOKEN", "007"),
            ("POSTERN__DATA_DIR", "/tmp/x"),
            ("POSTERN__STORE__URL", ""),
        ],
    )
    .unwrap();
    assert_eq!(sample.http.listen, "8080");
    assert!(sample.http.always_200);
    assert_eq!(sample.http.trusted_proxies, ["10.0.0.0/8", "::1"]);
    assert_eq!(sample.http.ports, [1, 2]);
    assert_eq!(sample.http.max_body.bytes(), 16 * 1024);
    assert_eq!(sample.http.mode, Mode::Accepted);
    assert_eq!(sample.http.connections, 12);
    assert!((sample.http.ratio - 0.25).abs() < 1e-9);
    assert_eq!(sample.clicks.token.unwrap().expose(), "007");
    assert_eq!(sample.data_dir.unwrap(), Path::new("/tmp/x"));
    assert!(sample.store.is_none(), "an empty value counts as unset");
}

#[test]
fn names_that_are_not_configuration_are_left_alone() {
    let env = [
        ("POSTERN_TEST_KAFKA", "localhost:1"),
        ("POSTERN_SERVICE_HOST", "10.0.0.1"),
        ("POSTERN_PORT", "tcp://10.0.0.1:8080"),
        ("OTHER__HTTP__LISTEN", "x"),
    ];
    assert_eq!(read("", &env).unwrap().http.listen, "0.0.0.0:8080");
}

#[test]
fn unknown_keys_name_themselves_and_their_source() {
    let error = message("[http]\nlisen = 1", &[]);
    assert!(
        error.starts_with("http.lisen: unknown key, known here are listen, "),
        "{error}"
    );
    assert!(error.ends_with("postern.toml)"), "{error}");
    let error = message("", &[("POSTERN__HTTP__LISEN", "1")]);
    assert!(error.starts_with("http.lisen: unknown key"), "{error}");
    assert!(
        error.ends_with("(from environment variable POSTERN__HTTP__LISEN)"),
        "{error}"
    );
    assert!(message("[htpp]", &[]).starts_with("htpp: unknown key"));
    assert!(message("[htpp.x]\ny=1", &[]).starts_with("htpp: unknown key"));
}

#[test]
fn bad_values_name_their_key() {
    for (toml, env, start) in [
        ("[http]\ntimeout = 2", None, "http.timeout: 2 can't be used"),
        ("", Some(("TIMEOUT", "2")), "http.timeout: \"2\" can't be"),
        ("[http]\nconnections = 1.5", None, "http.connections: inval"),
        ("[http]\nconnections = -1", None, "http.connections: inval"),
        ("[http]\nconnections = \"1\"", None, "http.connections: in"),
        ("[http]\nalways_200 = 1", None, "http.always_200: invalid"),
        ("", Some(("ALWAYS_200", "maybe")), "http.always_200: inv"),
        ("", Some(("MODE", "x")), "http.mode: unknown variant `x`"),
        ("", Some(("PORTS", "1,x")), "http.ports.1: invalid type"),
        ("[http]\nports = [1, 70000]", None, "http.ports.1: invalid"),
        ("http = 1", None, "http: this is a section with keys"),
        (
            "[http.listen]\nx = 1",
            None,
            "http.listen: invalid type: map, exp",
        ),
        ("[store]", None, "store.url: must be set"),
    ] {
        let env: Vec<(String, &str)> = env
            .into_iter()
            .map(|(k, v)| (format!("POSTERN__HTTP__{k}"), v))
            .collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        let error = message(toml, &env);
        assert!(error.starts_with(start), "{error}");
    }
    assert!(message("[http]\ntimeout = 2", &[]).contains("unit, such as 500ms"));
}

#[test]
fn every_way_of_writing_an_option_is_the_same_option() {
    let expected = "1000";
    for (toml, env) in [
        ("[kafka.options]\n\"socket.timeout.ms\" = 1000", None),
        ("[kafka.options.socket]\ntimeout.ms = \"1000\"", None),
        ("", Some("POSTERN__KAFKA__OPTIONS__socket.timeout.ms")),
        ("", Some("POSTERN__KAFKA__OPTIONS__SOCKET__TIMEOUT__MS")),
        (
            "[kafka.options]\n\"socket.timeout.ms\" = 5",
            Some("POSTERN__KAFKA__OPTIONS__SOCKET__TIMEOUT__MS"),
        ),
    ] {
        let env: Vec<_> = env.map(|name| (name, "1000")).into_iter().collect();
        let sample = read(toml, &env).unwrap();
        assert_eq!(sample.kafka.options.0["socket.timeout.ms"], expected);
        assert_eq!(sample.kafka.options.0.len(), 1);
    }
    // One name may be the beginning of another.
    let toml = "[kafka.options]\n\"group.protocol\" = \"classic\"\n\"group.protocol.type\" = \"consumer\"\nflag = true";
    let options = read(toml, &[]).unwrap().kafka.options.0;
    assert_eq!(options["group.protocol"], "classic");
    assert_eq!(options["group.protocol.type"], "consumer");
    assert_eq!(options["flag"], "true");
    let error = message("[kafka.options]\nx = [1]", &[]);
    assert!(error.starts_with("kafka.options: x must be"), "{error}");
}

#[test]
fn a_free_value_is_flattened_by_hand() {
    let toml = "[kafka.raw]\n\"a.b\" = 1\n[kafka.raw.c]\nd = true";
    let flat = flatten_options(read(toml, &[]).unwrap().kafka.raw);
    assert_eq!(flat.len(), 2);
    assert_eq!(flat["a.b"], "1");
    assert_eq!(flat["c.d"], "true");
    let nested = serde_json::json!({"a": {"b": 1}, "c": "x"});
    assert_eq!(flatten_options(nested)["a.b"], "1");
}

#[test]
fn a_secret_is_never_printed() {
    let sample = read("[clicks]\ntoken = \"hush\"", &[]).unwrap();
    assert_eq!(sample.clicks.token.as_ref().unwrap().expose(), "hush");
    assert!(!format!("{sample:?}").contains("hush"));
    assert_eq!(sample.clicks.token.unwrap().to_string(), "***");
    let error = message("[clicks]\ntoken = 424242", &[]);
    assert!(error.starts_with("clicks.token: a secret"), "{error}");
    assert!(!error.contains("424242"), "{error}");
    let error = message("[clicks]\ntoken = \"hush", &[]);
    assert!(error.contains("not valid TOML"), "{error}");
    assert!(error.contains("line 2"), "{error}");
    assert!(!error.contains("hush"), "{error}");
    let options = read("[kafka.options]\n\"sasl.password\" = \"hush\"", &[]).unwrap();
    assert!(!format!("{:?}", options.kafka).contains("hush"));
}

#[test]
fn a_secret_file_loses_its_line_end_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, " hush \r\n").unwrap();
    assert_eq!(Secret::from_file(&path).unwrap().expose(), " hush ");
    assert!(Secret::from_file(&dir.path().join("none")).is_err());
}

#[test]
fn a_named_file_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.toml");
    let error = load_from::<Sample>(Some(&missing), "POSTERN", dir.path(), []).unwrap_err();
    assert!(matches!(error, SettingsError::Read { .. }));
    load_from::<Sample>(None, "POSTERN", dir.path(), []).unwrap();
}

#[test]
fn spans_and_sizes() {
    for (text, millis) in [
        ("0ms", 0),
        ("500ms", 500),
        ("2s", 2000),
        ("1 m", 60_000),
        ("7d", 604_800_000),
    ] {
        let span: Span = text.parse().unwrap();
        assert_eq!(span.0, Duration::from_millis(millis));
        assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
    }
    for text in ["", "2", "s", "-1s", "1.5s", "1w", "99999999999999999d"] {
        assert!(text.parse::<Span>().is_err(), "{text}");
    }
    for (text, bytes) in [
        ("17", 17),
        ("16KiB", 16384),
        ("1MiB", 1 << 20),
        ("2MB", 2_000_000),
    ] {
        let size: Size = text.parse().unwrap();
        assert_eq!(size.bytes(), bytes);
        assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
    }
    for text in ["", "KiB", "1TiB?", "-1", "99999999999GiB"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}
