"""Postern alone, at sizes and in weather: many clicks, many consumers, many connections, storms, backlogs."""

import threading
import time

from contenders import settle
from limits import alone
from measure import Meter, load
from parts import TOKEN, Failed, Site, metrics, run, say

# The mix of the consumer's figures, in per cent.
MIX = {"duplicates": 10, "unknown": 5}


class Stage:
    """Kafka, PostgreSQL with clicks, and whatever of Postern is asked for."""

    def __init__(self, programs, clicks, store="postgres", seed=1):
        self.programs, self.seed, self.site = programs, seed, Site("scale")
        self.site.kafka()
        if store == "postgres":
            self.site.postgres()
        else:
            self.site.env["POSTERN__STORE__URL"] = f"sqlite:{self.site.dir}/postern.db"
        self.postgres = store == "postgres"
        self.site.prepare(programs.postern)
        if clicks and self.postgres:
            self.site.load_clicks(programs.generator, clicks, seed=seed)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.site.__exit__(*error)

    def consumers(self, number, env=None):
        """Starts them; gives the admin ports and what stops them. They join together."""
        started = [
            self.site.role(self.programs.postern, "consumer", env, name=f"consumer-{index}", wait=False)
            for index in range(number)
        ]
        return [port for port, _ in started], lambda: [stop() for _, stop in started]

    def load(self, target, **options):
        return load(self.programs.generator, self.site, target, seed=self.seed, **options)

    def publish(self, target, count, start=0):
        run(self.programs.generator, "publish", "--target", target, "--token", TOKEN, "--seed", self.seed,
            "--from", start, "--count", count)

    def fill(self, count, **mix):
        """Puts so many postbacks into Kafka, with nobody to consume them; gives the generator's report."""
        url, _, stop = self.site.ingress(self.programs.postern, "accepted")
        report = self.load(url, count=count, seconds=600, warmup=0, connections=256, **mix)
        stop()
        if report["outcomes"]["queued"] != report["requests"]:
            raise Failed(f"not all were accepted: {report['outcomes']}")
        return report

    def positions(self, column):
        if self.postgres:
            return int(self.site.sql(f"SELECT coalesce(sum({column}), 0) FROM partitions"))
        told = run("sqlite3", "-readonly", self.site.dir / "postern.db", "-cmd", ".timeout 10000",
                   f"SELECT coalesce(sum({column}), 0) FROM partitions")
        return int(told)

    def drain(self, column, count, consumers=1, env=None):
        """Starts consumers on a full topic; rate between the first and the last tenth, cost over all."""
        start = self.positions(column)
        ports, stop = self.consumers(consumers, env)
        watched = {name: pid for name, pid in self.site.watched.items()}
        meter = Meter(watched)
        meter.begin()
        seen, end = [], time.monotonic() + 900
        while not seen or seen[-1][1] < count:
            if time.monotonic() > end:
                raise Failed(f"{seen[-1:]} of {count} were consumed")
            time.sleep(0.2)
            seen.append((time.monotonic(), self.positions(column) - start))
        used = meter.end()
        peaks = [peak(self.site, f"consumer-{index}") for index in range(consumers)]
        stop()
        low = next(entry for entry in seen if entry[1] >= count // 10)
        high = next(entry for entry in seen if entry[1] >= count * 9 // 10)
        rate = (high[1] - low[1]) / max(high[0] - low[0], 0.001)
        return {
            "count": count,
            "rate": rate,
            "cpu_us": {name: 1e6 * seconds / count for name, seconds in used["cpu_s"].items()},
            "peak_mib": max(peaks),
            "consumers": consumers,
        }


def peak(site, name):
    """The most memory a process ever had, in MiB."""
    for line in open(f"/proc/{site.watched[name]}/status", encoding="utf-8"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def drains(programs, quick):
    """Postbacks drained into PostgreSQL and SQLite."""
    count = 60_000 if quick else 300_000
    found = []
    for store, consumers in (("postgres", 1), ("postgres", 2), ("postgres", 4), ("sqlite", 1)):
        say(f"drain into {store}, {consumers} consumers")
        with Stage(programs, count, store) as stage:
            if store == "sqlite":
                # Its clicks come by Kafka.
                url, _, stop = stage.site.ingress(programs.postern, "accepted")
                stage.publish(url, count)
                stop()
                clicks = stage.drain("clicks", count)
                found.append({"what": "clicks", "store": store, **clicks})
            stage.fill(count, **MIX)
            found.append({"what": "postbacks", "store": store, **stage.drain("postbacks", count, consumers)})
            if consumers == 1:
                rate = alone(stage, count)
                found.append({"what": "alone", "store": store, "count": count, "rate": rate})
    return found


def sizes(programs, quick):
    """The same load among ever more clicks."""
    found = []
    for clicks in (20_000, 200_000) if quick else (100_000, 1_000_000, 10_000_000):
        say(f"{clicks} clicks")
        with Stage(programs, clicks) as stage:
            # Numbers apart from those of the drain, all over the set.
            count = min(clicks // 2, 100_000)
            stage.fill(count, **MIX)
            drained = stage.drain("postbacks", count)
            stage.consumers(1)
            url, _, _ = stage.site.ingress(programs.postern)
            seconds = 10 if quick else 20
            rate = min(1000, clicks // 2 // (seconds + 5))
            answered = stage.load(url, rate=rate, seconds=seconds, warmup=5, connections=32, **{"from": clicks // 2})
            found.append({"clicks": clicks, "drain": drained, "answers": answered})
    return found


def clicks(programs, quick):
    """Clicks drained; and postbacks for known clicks while clicks pile up."""
    count = 100_000 if quick else 500_000
    with Stage(programs, 100_000) as stage:
        url, _, stop = stage.site.ingress(programs.postern)
        before = size(stage)
        drained = []
        for consumers in (1, 2):
            stage.publish(url, count, 1_000_000 * consumers)
            drained.append(stage.drain("clicks", count, consumers))
        stage.site.sql("VACUUM ANALYZE clicks")
        grown = (size(stage) - before) / count / len(drained)
        # The same again, while 500 postbacks of clicks that were there before come in each second.
        stage.publish(url, count, 3_000_000)
        stage.consumers(1)
        answered = stage.load(url, rate=500, seconds=20, warmup=0, connections=512)
        stop()
        return {"drains": drained, "bytes_per_click": grown, "beside": answered}


def size(stage):
    return int(stage.site.sql("SELECT pg_total_relation_size('clicks')"))


def connections(programs, quick):
    """A fixed rate over ever more connections, and idle ones."""
    found = []
    with Stage(programs, 400_000) as stage:
        stage.consumers(1)
        url, _, _ = stage.site.ingress(programs.postern)
        start, seconds = 0, 5 if quick else 15
        for number in (10, 100, 1_000, 5_000) if quick else (10, 100, 1_000, 10_000):
            say(f"{number} connections")
            report = stage.load(url, rate=2000, seconds=seconds, warmup=3, connections=number, **{"from": start})
            start = report["next"]
            found.append(report)
    with Stage(programs, 1_000) as stage:
        stage.consumers(1)
        url, _, _ = stage.site.ingress(programs.postern)
        report = stage.load(url, rate=10, seconds=10, warmup=0, connections=10, idle=9_900)
        report["ingress_peak_mib"] = peak(stage.site, "ingress")
        return {"active": found, "idle": report}


def storms(programs, quick):
    """The usual mix, one clickid again and again, and clickids that nobody knows."""
    count = 20_000 if quick else 100_000
    found = {}
    for name, options in (
        ("mix", MIX),
        ("duplicate", {"storm": "duplicate"}),
        ("not-found", {"storm": "not-found"}),
    ):
        say(f"storm: {name}")
        with Stage(programs, 200_000) as stage:
            stage.consumers(1)
            url, _, _ = stage.site.ingress(programs.postern)
            # Kafka's code is compiled as it runs.
            stage.load(url, count=40_000, seconds=60, warmup=0, connections=64, **{"from": 150_000})
            report = stage.load(url, count=count, seconds=600, warmup=0, connections=64, **options)
            found[name] = report
    return found


def overload(programs, quick):
    """Ten times what the consumer can do, for a minute. Its batches are made small, or one machine could not offer it."""
    seconds = 10 if quick else 60
    found = {}
    with Stage(programs, 2_000_000) as stage:
        _, stop = stage.consumers(1, {"POSTERN__CONSUMER__MAX_BATCH": "4"})
        url, _, _ = stage.site.ingress(programs.postern)
        plan = {"warmup": 5, "from": 0}
        closed = stage.load(url, connections=64, seconds=10, **plan)
        capacity = int(closed["answers_per_second"])
        say(f"capacity: {capacity}/s")
        taken = sum(closed["all"].values())
        for name, rate in (("normal", capacity // 2), ("capacity", capacity), ("overload", capacity * 10)):
            plan["from"] += 200_000
            report = stage.load(url, rate=rate, connections=1000, seconds=seconds if name == "overload" else 20, **plan)
            report["ingress_peak_mib"] = peak(stage.site, "ingress")
            report["share_of_capacity"] = rate / capacity
            found[name] = report
            taken += sum(count for kind, count in report["all"].items() if kind != "error")
        # At its full speed the backlog takes it a minute.
        stop()
        stage.consumers(1)
        settle(stage.site, taken, 900)
        found["taken"], found["logged"] = taken, int(stage.site.sql("SELECT count(*) FROM postback_log"))
    return found


def sustained(programs, quick, rate):
    """A rate held for five minutes, the consumer's lag at each minute."""
    seconds, rate = (20, 4000) if quick else (300, rate)
    need = rate * (seconds + 10)
    # Kafka compiles itself before; what callers wait for meanwhile they would have to make up for.
    with Stage(programs, need + 500_000) as stage:
        ports, _ = stage.consumers(1)
        url, _, _ = stage.site.ingress(programs.postern)
        warm = stage.load(url, seconds=30, warmup=0, connections=256, count=500_000)
        lags, over = [], threading.Event()

        def look():
            while not over.wait(5):
                lags.append(metrics(ports[0]).get("postern_consumer_lag_records", 0))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        report = stage.load(url, rate=rate, seconds=seconds, warmup=10, connections=1500, count=need,
                            **{"from": warm["next"]})
        over.set()
        thread.join()
        report["lags"] = lags
        report["consumer_peak_mib"] = peak(stage.site, "consumer-0")
        report["ingress_peak_mib"] = peak(stage.site, "ingress")
        return report
