"""All benchmarks: `make bench`. Results go to target/bench/results.json, and from there into docs/BENCHMARKS.md."""

import argparse
import json
import pathlib
import platform
import random
import signal
import subprocess
import sys
import time

import contenders
import page
import scale
from measure import load
from parts import ROOT, Failed, run, say

RESULTS = ROOT / "target/bench/results.json"
# Connections of the closed loops, and postbacks per second of the open ones.
CLOSED = [4, 32, 128, 512, 2048]
OPEN = {1000: 64, 4000: 512}
SCALES = ["drains", "sizes", "clicks", "connections", "storms", "overload", "sustained"]


def compare(programs, options):
    """Every contender in turn, in another order each round."""
    chosen = [one for one in contenders.ALL if not options.only or one.key in options.only]
    if any(one.key == "benthos" for one in chosen):
        programs.build_benthos()
    rounds = []
    for number in range(options.rounds):
        order = chosen[:]
        random.Random(options.seed + number).shuffle(order)
        for kind in order:
            say(f"round {number + 1} of {options.rounds}: {kind.key}")
            rounds.append({"key": kind.key, "round": number, "runs": one(kind(programs), options)})
    return rounds


def one(contender, options):
    """Closed loops, then open ones, each on clicks that were not used before."""
    site, url = contenders.bring_up(contender)
    with site:
        reports, start = [], 0

        def go(**plan):
            nonlocal start
            report = load(contender.programs.generator, site, url, **{"from": start}, **plan)
            start = report["next"]
            reports.append(report)
            say(
                f"  {plan.get('rate') or 'closed'} x {plan['connections']}: {report['answers_per_second']:.0f}/s, "
                f"p50 {report['latency_ms']['p50']:.2f}, p99 {report['latency_ms']['p99']:.2f} ms, "
                f"{report['final_percent']:.1f}% final, us: "
                + ", ".join(f"{name} {cost:.1f}" for name, cost in report["cpu_us"].items())
            )
            return report

        # Kafka compiles itself while it runs, for half a minute under load; caches fill.
        go(connections=256, seconds=options.warmup, warmup=0)
        left = contenders.CLICKS_EMBEDDED if "embedded" in contender.key else contenders.CLICKS
        numbers = [number for number in options.closed if number <= contender.most_connections]
        closed = [go(connections=number, seconds=options.seconds, warmup=2) for number in numbers]
        opened = [
            go(connections=number, rate=rate, seconds=options.seconds * 2, warmup=3)
            for rate, number in OPEN.items()
            if contender.answers != "nothing"
        ]
        if start > left and contender.answers == "verdict":
            raise Failed(f"{start} postbacks, more than clicks")
        contender.verify(site, reports)
        return {"closed": closed, "open": opened}


def machine():
    model = next(
        (line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")),
        platform.machine(),
    )
    cores = len([1 for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("processor")])

    def version(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else "?"

    pom = (ROOT / "deploy/kafka/pom.xml").read_text()
    return {
        "cpu": model,
        "cores": cores,
        "kernel": platform.release(),
        "memory": f"{int(open('/proc/meminfo', encoding='utf-8').readline().split()[1]) // 2**20} GiB",
        "commit": version("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "Kafka": pom.split("<kafka.version>")[1].split("<")[0],
        "PostgreSQL": run("psql", "--version").split()[2],
        "Rust": version("rustc", "--version").split()[1],
        "PHP": version("php", "--version").split()[1],
        "nginx": version("nginx", "-v").split("/")[-1],
        "Go": version("go", "version").split()[2].removeprefix("go"),
        "date": time.strftime("%Y-%m-%d"),
    }


def main():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"contenders, {', '.join(SCALES)}; all of them where none is named")
    parser.add_argument("--only", action="append", help="a contender; may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of each closed loop; open ones take twice that")
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--closed", type=int, action="append", help="connections of the closed loops")
    parser.add_argument("--rate", type=int, default=12_000, help="of the five minutes")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--quick", action="store_true", help="short and small: shows that it works, not how fast it is")
    parser.add_argument("--no-page", action="store_true", help="leave docs/BENCHMARKS.md as it is")
    options = parser.parse_args()
    options.closed = options.closed or CLOSED
    if options.quick:
        options.rounds, options.seconds, options.warmup = 1, 2, 2
    what = options.what or ["contenders", *SCALES]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    programs = contenders.Programs()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = machine()
    for name in what:
        begin = time.monotonic()
        if name == "contenders":
            # Of contenders that are not run again the last results stay.
            kept = [entry for entry in results.get(name, []) if options.only and entry["key"] not in options.only]
            results[name] = kept + compare(programs, options)
        elif name == "sustained":
            results[name] = scale.sustained(programs, options.quick, options.rate)
        elif name in SCALES:
            results[name] = getattr(scale, name)(programs, options.quick)
        else:
            parser.error(f"there is no benchmark {name}")
        say(f"{name} took {time.monotonic() - begin:.0f} s")
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1))
    if not options.no_page:
        page.write(results, pathlib.Path(ROOT / "docs/BENCHMARKS.md"))


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        say(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
