"""Where the processor's time goes: `make profile`. Samples by the clock, so it works without hardware counters."""

import pathlib
import shutil
import subprocess
import sys
import time

import contenders
import scale
from measure import load, processes, tree
from parts import ROOT, Failed, say

TOP = 40


def record(site, names, seconds, out, work):
    """Samples the named processes while `work` runs, and writes what took the time."""
    found = processes()
    pids = {name: tree(site.watched[name], found) for name in names}
    recorders = {}
    for name, members in pids.items():
        data = out / f"{name}.perf"
        recorders[name] = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-g", "-o", data, "-p",
             ",".join(map(str, sorted(members))), "--", "sleep", str(seconds)],
            stderr=subprocess.DEVNULL,
        )
    work()
    for name, recorder in recorders.items():
        if recorder.wait() != 0:
            raise Failed(f"perf could not sample {name}")
        told = {}
        for what, sort in (("threads", "comm"), ("functions", "comm,dso,symbol")):
            report = subprocess.run(
                ["perf", "report", "-i", out / f"{name}.perf", "--no-children", "-g", "none", "--stdio", "--sort", sort],
                capture_output=True, text=True, check=False,
            ).stdout
            lines = [line for line in report.splitlines() if line.strip() and not line.startswith("#")]
            told[what] = lines[:TOP]
        (out / f"{name}.txt").write_text("\n".join(told["threads"] + ["", *told["functions"], ""]))
        print(f"\n== {out.name}: {name}\n" + "\n".join(told["threads"][:6] + [""] + told["functions"][:20]))


def main():
    if shutil.which("perf") is None:
        raise Failed("perf is missing: apt-get install linux-perf")
    programs = contenders.Programs()
    out = ROOT / "target/bench/profile"

    def answers(kind, names):
        site, url = contenders.bring_up(kind(programs))
        with site:
            plan = {"warmup": 0, "connections": 128}
            first = load(programs.generator, site, url, seconds=8, **plan)
            path = out / kind.key
            path.mkdir(parents=True, exist_ok=True)
            record(site, names, 8, path,
                   lambda: load(programs.generator, site, url, seconds=9, **plan, **{"from": first["next"]}))

    answers(contenders.Accepted, ["ingress"])
    answers(contenders.Verdict, ["ingress", "consumer", "postgres"])
    say("drain")
    with scale.Stage(programs, 400_000) as stage:
        stage.fill(400_000, **scale.MIX)
        stage.consumers(1)
        stage.site.until("the first batches", lambda: stage.positions("postbacks") > 1000)
        path = out / "drain"
        path.mkdir(parents=True, exist_ok=True)
        record(stage.site, ["consumer-0", "postgres"], 6, path, lambda: time.sleep(6))
    say(f"all of it is in {pathlib.Path(out).relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        say(error)
        sys.exit(1)
