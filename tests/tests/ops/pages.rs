//! What README.md and docs/DEPLOYMENT.md have people type, in a new clone of what is committed.

use postern_tests::directory;
use postern_tests::foreign::free_address;
use postern_tests::pages::{Block, blocks_of};
use postern_tests::process::spawn;
use postern_tests::real::{self, World};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The ports that the pages name.
const PORTS: [&str; 8] = [
    "8080", "8081", "8082", "8083", "9100", "9101", "9102", "9103",
];
/// A build from nothing, on a slow machine.
const LIMIT: Duration = Duration::from_secs(1200);

/// The pages build for speed, which takes several times as long and changes nothing here.
const UNOPTIMIZED: [(&str, &str); 2] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// A clone. All build in one place, so that only what is ours is built again.
fn checkout() -> PathBuf {
    let repository = directory::repository();
    let target = repository.join("target/pages");
    std::fs::create_dir_all(&target).unwrap();
    let clone = directory::fresh("checkout").join("postern");
    let cloned = Command::new("git")
        .args(["clone", "--quiet", "--no-hardlinks"])
        .arg(&repository)
        .arg(&clone)
        .status();
    assert!(cloned.unwrap().success());
    std::os::unix::fs::symlink(target, clone.join("target")).unwrap();
    clone
}

/// Its ports exchanged for free ones, which may look like one of the others.
fn with_ports(text: &str, ports: &[String]) -> String {
    let mut text = text.to_owned();
    for (number, named) in PORTS.iter().enumerate() {
        text = text.replace(named, &format!("<{number}>"));
    }
    for (number, free) in ports.iter().enumerate() {
        text = text.replace(&format!("<{number}>"), free);
    }
    text
}

fn free_ports() -> Vec<String> {
    let port = |_| free_address().port().to_string();
    PORTS.iter().map(port).collect()
}

/// Runs it as a person's shell would; gives what it printed. It must succeed.
fn shell(script: &str, directory: &Path, settings: &[(&str, &str)]) -> String {
    let said = directory.join("said");
    let file = std::fs::File::create(&said).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "timeout"])
        .arg(LIMIT.as_secs().to_string())
        .args(["bash", "-euo", "pipefail", "-c"])
        // What it leaves running ends with it.
        .arg(format!(
            "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
        ))
        .current_dir(directory)
        .envs(UNOPTIMIZED)
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let status = spawn(command).wait().unwrap();
    let text = std::fs::read_to_string(&said).unwrap();
    assert!(status.success(), "{status}:\n{script}\n\n{text}");
    text
}

fn of_shell(blocks: &[Block]) -> impl Iterator<Item = &str> {
    let shell = blocks.iter().filter(|block| block.language == "sh");
    shell.map(|block| block.text.as_str())
}

#[test]
#[ignore = "make test-ops"]
fn the_readme() {
    let clone = checkout();
    let ports = free_ports();
    let served = format!("127.0.0.1:{}", ports[0]);
    let admin = format!("127.0.0.1:{}", ports[4]);
    let settings = [
        ("POSTERN__HTTP__LISTEN", served.as_str()),
        ("POSTERN__ADMIN__LISTEN", &admin),
        ("POSTERN__BROKER__LISTEN", "127.0.0.1:0"),
    ];
    let blocks = blocks_of("README.md", |heading| {
        ["First postback", "Campaigns", "What was recorded"]
            .iter()
            .any(|one| heading.contains(one))
    });
    let blocks: String = of_shell(&blocks).collect();
    let script = format!(
        "make build\n\
             export PATH=\"$PWD/target/release:$PATH\"\n\
             make run &\n\
             until curl -s -o /dev/null http://127.0.0.1:8080/; do sleep 1; done\n\
             {blocks}\n\
             kill $(jobs -p)\n\
             wait\n"
    );
    let said = shell(&with_ports(&script, &ports), &clone, &settings);
    for expected in [
        r#"{"status":"ok","accepted":1,"refused":0,"refusals":[]}"#,
        r#""note":"duplicate""#,
        r#""error":"missing_clickid""#,
        r#""error":"click_not_found""#,
        "https://shop.example/?cid=",
        "The clicks token is",
    ] {
        assert!(said.contains(expected), "no {expected} in {said}");
    }
}

#[test]
#[ignore = "make test-ops"]
fn the_deployment_as_processes() {
    if real::missing(true).is_some() {
        return;
    }
    let clone = checkout();
    let world = World::own();
    let blocks = blocks_of("docs/DEPLOYMENT.md", |heading| {
        heading.contains("As processes")
    });
    let ports = free_ports();
    let script: String = of_shell(&blocks).collect();
    for named in [
        "localhost:9092",
        "postgres://postern@localhost:5432/postern",
    ] {
        assert!(script.contains(named), "no {named} in the page");
    }
    let script = with_ports(&script, &ports)
        .replace("localhost:9092", &world.bootstrap)
        .replace("postgres://postern@localhost:5432/postern", &world.store);
    // The first role has the default.
    let admin = format!("127.0.0.1:{}", ports[4]);
    let said = shell(&script, &clone, &[("POSTERN__ADMIN__LISTEN", &admin)]);
    assert_eq!(said.matches("became      converted").count(), 2, "{said}");
    for expected in [
        "ok      consumer",
        "ok      topics",
        r#""conversions":2"#,
        "clickid,",
    ] {
        assert!(said.contains(expected), "no {expected} in {said}");
    }
    world.end();
}
