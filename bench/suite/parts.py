"""Processes of a benchmark: Kafka, PostgreSQL, Postern's roles, contenders. All end with the program."""

import atexit
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKEN = "benchmark-token-of-clicks"
# The same for everybody who uses PostgreSQL. Commits are flushed.
POSTGRES = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "synchronous_commit": "on",
    "fsync": "on",
}
HEAP = "-Xms1g -Xmx1g"


class Failed(Exception):
    """Something is not as it must be; what was measured doesn't count."""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def run(*command, env=None, stdin=None):
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **(env or {})},
            stdin=stdin,
            text=True,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is missing") from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}")
    return done.stdout


def release(*packages):
    """Builds programs of the workspace and gives the path of the first."""
    minor = int(run("rustc", "--version").split(".")[1])
    # The embedded broker declares Rust 1.96 and works with 1.95.
    ignore = ["--ignore-rust-version"] if minor < 96 else []
    # Together, or what they share would be built for each with features of its own.
    named = [word for package in packages for word in ("-p", package)]
    say("building")
    subprocess.run(["cargo", "build", "--release", "--locked", *ignore, *named], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / packages[0]


class Site:
    """A temporary directory with what was started in it; `with` ends all of it, the last first."""

    def __init__(self, name):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"bench-{name}."))
        # The servers run as other users.
        self.dir.chmod(0o755)
        self.undo = []
        # Name and root process of what is measured.
        self.watched = {}
        self.env = {}

    def __enter__(self):
        atexit.register(self.close)
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            kept = pathlib.Path(tempfile.mkdtemp(prefix="bench-logs."))
            for log in self.dir.glob("*.log"):
                shutil.copy(log, kept)
            say(f"the logs are in {kept}")
        self.close()

    def close(self):
        atexit.unregister(self.close)
        for undo in reversed(self.undo):
            undo()
        self.undo = []
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, name, *command, env=None):
        """Starts a process, watched under its name."""
        with open(self.dir / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                env={**os.environ, **self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.watched[name] = process.pid

        def stop():
            self.watched.pop(name, None)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    say(f"{name} did not end within 40 s")
                    process.kill()
                    process.wait()

        self.undo.append(stop)
        return process, stop

    def until(self, what, done, process=None, seconds=60):
        end = time.monotonic() + seconds
        while not done():
            if process is not None and process.poll() is not None:
                raise Failed(f"{what}: the process ended")
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {seconds} s")
            time.sleep(0.1)

    def kafka(self):
        path = self.dir / "kafka"
        script = ROOT / "deploy/kafka/kafka.sh"
        told = run(script, "start", "--dir", path, "--until-exit", os.getpid(), env={"POSTERN_KAFKA_HEAP": HEAP})
        self.undo.append(lambda: run(script, "stop", "--dir", path))
        self.env["POSTERN__KAFKA__BROKERS"] = told.strip().removeprefix("bootstrap=")
        self.env["POSTERN__KAFKA__ALLOW_SINGLE_REPLICA"] = "true"
        self.watched["kafka"] = int((path / "broker-1/pid").read_text().split()[0])

    def postgres(self):
        path = self.dir / "postgres"
        script = ROOT / "deploy/postgres/postgres.sh"
        told = run(script, "start", "--dir", path, "--until-exit", os.getpid())
        self.undo.append(lambda: run(script, "stop", "--dir", path))
        self.env["POSTERN__STORE__URL"] = told.strip().removeprefix("url=")
        for key, value in POSTGRES.items():
            self.sql(f"ALTER SYSTEM SET {key} = '{value}'")
        run(script, "restart", "--dir", path)
        self.watched["postgres"] = int((path / "data/postmaster.pid").read_text().split()[0])

    def sql(self, text):
        return run("psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", text, self.env["POSTERN__STORE__URL"]).strip()

    def load_clicks(self, generator, count, table="clicks", seed=1):
        """Fills a table with a click set, indexes last."""
        say(f"loading {count} clicks")
        columns = ["publisher_id", "traffic_log_id", "kafka_partition", "kafka_offset"]
        before, after = [], []
        if table == "clicks":
            # What a click set has no values for; and indexes last.
            before = [
                "ALTER TABLE clicks DROP CONSTRAINT clicks_pkey;",
                "DROP INDEX clicks_clicked_at;",
                *(f"ALTER TABLE clicks ALTER {column} SET DEFAULT {default};"
                  for column, default in zip(columns, ["''", "''", 0, 0])),
            ]
            after = [
                *(f"ALTER TABLE clicks ALTER {column} DROP DEFAULT;" for column in columns),
                "ALTER TABLE clicks ADD PRIMARY KEY (clickid);",
                "CREATE INDEX clicks_clicked_at ON clicks (clicked_at);",
            ]
        copy = f"\\copy {table} (clickid, campaign_id, site_id, source, clicked_at) FROM PSTDIN"
        script = [*before, copy, *after, "VACUUM ANALYZE;", "CHECKPOINT;"]
        path = self.dir / "load.sql"
        path.write_text("\n".join([*script, ""]))
        making = subprocess.Popen(
            [generator, "clicks", "--seed", str(seed), "--count", str(count)], stdout=subprocess.PIPE
        )
        url = self.env["POSTERN__STORE__URL"]
        run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", path, url, stdin=making.stdout)
        if making.wait() != 0:
            raise Failed("the clicks were not made")

    def role(self, postern, role, env=None, name=None, wait=True):
        """Starts a role and waits until it is ready; gives its admin port and what stops it."""
        port = free_port()
        env = {
            "POSTERN__ADMIN__LISTEN": f"127.0.0.1:{port}",
            "POSTERN__LOG__FORMAT": "json",
            "POSTERN__DATA_DIR": str(self.dir / (name or role)),
            "POSTERN__CLICKS__TOKEN": TOKEN,
            **(env or {}),
        }
        process, stop = self.start(name or role, postern, role, env=env)
        if wait:
            self.until(f"{name or role} ready", lambda: ready(port), process)
        return port, stop

    def ingress(self, postern, mode="verdict", role="ingress", env=None):
        """Starts what answers; gives its URL, its admin port and what stops it."""
        listen = f"127.0.0.1:{free_port()}"
        env = {"POSTERN__HTTP__LISTEN": listen, "POSTERN__ANSWER__MODE": mode, **(env or {})}
        if role == "standalone":
            env["POSTERN__BROKER__LISTEN"] = "127.0.0.1:0"
        port, stop = self.role(postern, role, env)
        return f"http://{listen}", port, stop

    def prepare(self, postern):
        """Kafka's topics and the store's tables."""
        for command in (["migrate"], ["topics", "create"]):
            run(postern, *command, env=self.env)


def ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def metrics(port):
    """All of a role's metrics, labels summed up."""
    values = {}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{")[0]
                values[name] = values.get(name, 0.0) + float(value)
    return values
