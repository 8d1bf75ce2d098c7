"""Who is compared, and how each is started. All of them answer the same postbacks of the same click set."""

import os
import pathlib
import pwd
import socket
import time

from parts import ROOT, TOKEN, Failed, Site, free_port, release, run

HERE = ROOT / "bench/contenders"
# Known clicks; more than any run sends postbacks.
CLICKS = 2_000_000
# Through the ingress of an embedded Postern, which has no other way in.
CLICKS_EMBEDDED = 400_000
PHP_WORKERS = 8
# Of each topic: Postern's default.
PARTITIONS = 4


class Programs:
    """What is built once."""

    def __init__(self):
        if "POSTERN" in os.environ:
            # What was built elsewhere, such as another release: POSTERN, and the others beside it.
            self.postern = pathlib.Path(os.environ["POSTERN"]).resolve()
        else:
            self.postern = release("postern", "postern-bench", "postern-floors")
        self.generator = self.postern.parent / "postern-bench"
        self.floors = self.postern.parent / "postern-floors"
        self.benthos = None

    def build_benthos(self):
        path = ROOT / "target/bench"
        path.mkdir(parents=True, exist_ok=True)
        run("go", "build", "-C", HERE / "benthos", "-trimpath", "-o", path / "benthos", ".")
        self.benthos = path / "benthos"


class Contender:
    """A server that takes postbacks; `key` names it in results, `label` on the page."""

    # What an answer says at best: the outcome, or that it is kept.
    answers = "verdict"
    durable = ""
    # In closed loops. With more than Postern decides within `answer.timeout` it says `queued`, also to those that follow.
    most_connections = 2048

    def __init__(self, programs):
        self.programs = programs

    def start(self, site):
        """Starts it and gives its URL."""
        raise NotImplementedError

    def verify(self, site, reports):
        """Fails where the store doesn't hold what was answered."""


class Hyper(Contender):
    key, label = "hyper", "floor: hyper, a fixed answer"
    answers, durable = "nothing", "nowhere"

    def start(self, site):
        return serve(site, self.programs.floors)


class HyperKafka(Contender):
    key, label = "hyper-kafka", "floor: hyper + rdkafka"
    answers, durable = "kept", "Kafka, acknowledged"

    def start(self, site):
        topic(site)
        return serve(site, self.programs.floors, site.env["POSTERN__KAFKA__BROKERS"], "postern.bench")


class Benthos(Contender):
    key, label = "benthos", "Redpanda Connect's engine, HTTP to Kafka"
    answers, durable = "kept", "Kafka, acknowledged"

    def start(self, site):
        topic(site)
        port = free_port()
        env = {"PORT": str(port), "BROKERS": site.env["POSTERN__KAFKA__BROKERS"]}
        process, _ = site.start("server", self.programs.benthos, "run", HERE / "benthos/pipeline.yaml", env=env)
        wait_for(site, f"127.0.0.1:{port}", process)
        return f"http://127.0.0.1:{port}"


class Php(Contender):
    key, label = "php", "status quo: PHP + PostgreSQL"
    durable = "PostgreSQL, fsynced"

    def start(self, site):
        site.postgres()
        run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", HERE / "php/schema.sql", site.env["POSTERN__STORE__URL"])
        site.load_clicks(self.programs.generator, CLICKS, "php.clicks")
        port = free_port()
        fpm = next(iter(sorted(pathlib.Path("/usr/sbin").glob("php-fpm*"))), None)
        if fpm is None:
            raise Failed("php-fpm is missing: apt-get install php-fpm php-pgsql")
        root = os.getuid() == 0
        user = pwd.getpwnam("www-data").pw_name if root else None
        database = site.env["POSTERN__STORE__URL"].split("@")[1]
        host, name = database.split("/")
        values = {
            "DIR": site.dir,
            "PORT": port,
            "WORKERS": PHP_WORKERS,
            "DSN": f"host={host.split(':')[0]} port={host.split(':')[1]} dbname={name} user=postern",
        }
        # Its socket, where the server has one: cheaper than loopback.
        if (site.dir / "postgres" / f".s.PGSQL.{host.split(':')[1]}").exists():
            (site.dir / "postgres").chmod(0o755)
            values["DSN"] = f"host={site.dir / 'postgres'} port={host.split(':')[1]} dbname={name} user=postern"
        # A readable place: the checkout may be closed to the user of the workers.
        script = site.dir / "postback.php"
        script.write_text((HERE / "php/postback.php").read_text())
        values["SCRIPT"] = script
        for file, line in (("nginx.conf", f"user {user};"), ("php-fpm.conf", f"user = {user}\ngroup = {user}")):
            text = (HERE / "php" / file).read_text().replace("@USER@", line if root else "")
            for key, value in values.items():
                text = text.replace(f"@{key}@", str(value))
            (site.dir / file).write_text(text)
        site.start("php-fpm", fpm, "--fpm-config", site.dir / "php-fpm.conf")
        site.until("php-fpm", (site.dir / "php.sock").exists)
        process, _ = site.start("nginx", "nginx", "-p", site.dir, "-c", site.dir / "nginx.conf")
        wait_for(site, f"127.0.0.1:{port}", process)
        return f"http://127.0.0.1:{port}"

    def verify(self, site, reports):
        expected(site.sql("SELECT count(*) FROM php.conversions"), reports, ["standard"])


class Accepted(Contender):
    key, label = "accepted", "Postern, `answer.mode = accepted`, Kafka"
    answers, durable = "kept", "Kafka, acknowledged"

    def start(self, site):
        site.kafka()
        # Its topics; nobody consumes them.
        site.env["POSTERN__STORE__URL"] = f"sqlite:{site.dir}/none.db"
        run(self.programs.postern, "topics", "create", env=site.env)
        return site.ingress(self.programs.postern, "accepted")[0]


class Verdict(Contender):
    key, label = "verdict", "Postern, the full verdict, Kafka + PostgreSQL"
    durable = "Kafka, and PostgreSQL, fsynced"

    def start(self, site):
        site.kafka()
        site.postgres()
        site.prepare(self.programs.postern)
        site.load_clicks(self.programs.generator, CLICKS)
        site.role(self.programs.postern, "consumer")
        return site.ingress(self.programs.postern)[0]

    def verify(self, site, reports):
        total = sum(sum(report["all"].values()) - report["all"]["error"] for report in reports)
        settle(site, total)
        expected(site.sql("SELECT count(*) FROM conversions"), reports, ["standard", "queued"])
        expected(site.sql("SELECT count(*) FROM postback_log"), reports, ["standard", "queued"])


class Embedded(Contender):
    key, label = "embedded", "Postern, the full verdict, standalone"
    most_connections = 512
    durable = "the embedded broker and SQLite, no fsync by the broker"
    mode = "verdict"

    def start(self, site):
        url, _, _ = site.ingress(self.programs.postern, self.mode, role="standalone")
        # Without a verdict nothing tells that they are read, and nothing needs them.
        settle = ["--settle"] if self.mode == "verdict" else []
        run(self.programs.generator, "publish", "--target", url, "--token", TOKEN, "--count", CLICKS_EMBEDDED, *settle)
        return url


class EmbeddedAccepted(Embedded):
    key, label = "embedded-accepted", "Postern, `answer.mode = accepted`, standalone"
    answers, durable = "kept", "the embedded broker, no fsync"
    mode = "accepted"


ALL = [Hyper, HyperKafka, Benthos, Php, Accepted, Verdict, EmbeddedAccepted, Embedded]


def serve(site, floors, *kafka):
    """Starts a floor and gives its URL."""
    listen = f"127.0.0.1:{free_port()}"
    process, _ = site.start("server", floors, listen, *kafka)
    wait_for(site, listen, process)
    return f"http://{listen}"


def wait_for(site, address, process):
    host, port = address.split(":")

    def listens():
        with socket.socket() as sock:
            return sock.connect_ex((host, int(port))) == 0

    site.until(f"a server at {address}", listens, process)


def topic(site):
    site.kafka()
    run(ROOT / "deploy/kafka/kafka.sh", "tool", "--dir", site.dir / "kafka", "topics", "--create", "--topic",
        "postern.bench", "--partitions", PARTITIONS, "--replication-factor", "1")


def settle(site, total, seconds=300):
    """Waits until so many postbacks are in the log; fails when none come for half a minute."""
    end, last, moved = time.monotonic() + seconds, -1, time.monotonic()
    while True:
        logged, now = int(site.sql("SELECT count(*) FROM postback_log")), time.monotonic()
        if logged >= total:
            return
        if logged != last:
            last, moved = logged, now
        if now > end or now - moved > 30:
            raise Failed(f"{total} postbacks were taken, {logged} are in the log")
        time.sleep(2)


def expected(found, reports, kinds):
    """At least what was answered; at most what was sent, since a caller may have left before its answer."""
    answered = sum(report["all"][kind] for report in reports for kind in kinds)
    errors = sum(report["all"]["error"] for report in reports)
    if not answered <= int(found) <= answered + errors:
        raise Failed(f"{answered} were answered (and {errors} not), the store has {found}")


def bring_up(contender):
    """A site with the contender running, and its URL."""
    site = Site(contender.key)
    try:
        return site, contender.start(site)
    except BaseException:
        site.__exit__(Failed, None, None)
        raise
