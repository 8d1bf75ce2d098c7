//! One directory per test process for all that its children write. It goes when the process has
//! ended, and so do Kafka and PostgreSQL, also when the process was killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Set, it keeps the directory for a look at what is in it.
const KEEP: &str = "POSTERN_TEST_KEEP";

/// The repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A new directory, named after its purpose.
#[must_use]
pub fn fresh(purpose: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = base().join(format!("{purpose}-{number}"));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A new directory on a file system of its own that takes so much; `None` where the system doesn't
/// let us.
#[must_use]
pub fn limited(purpose: &str, bytes: u64) -> Option<PathBuf> {
    let path = fresh(purpose);
    let size = format!("size={bytes}");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
        .arg(&path)
        .stderr(Stdio::null())
        .status();
    mounted.is_ok_and(|status| status.success()).then_some(path)
}

fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("postern-e2e-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        clean_up_after_us(&path);
        path
    })
}

/// A statics' destructor would not run, and no destructor runs after SIGKILL: a child of its own
/// session waits for our end.
#[expect(clippy::zombie_processes, reason = "it outlives us, by design")]
fn clean_up_after_us(base: &Path) {
    const SCRIPT: &str = r#"
        tail --pid="$1" -s 0.2 -f /dev/null
        for dir in "$2"/kafka-*; do [ -e "$dir/cluster" ] && "$3/kafka/kafka.sh" kill --dir "$dir"; done
        for dir in "$2"/postgres-*; do [ -e "$dir/port" ] && "$3/postgres/postgres.sh" kill --dir "$dir"; done
        for dir in "$2"/*/; do mountpoint -q "$dir" && umount -l "$dir"; done
        [ -n "$4" ] || rm -rf "$2"
    "#;
    Command::new("setsid")
        .args(["sh", "-c", SCRIPT, "clean-up"])
        .arg(std::process::id().to_string())
        .arg(base)
        .arg(repository().join("deploy"))
        .arg(std::env::var(KEEP).unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setsid of util-linux starts");
}
