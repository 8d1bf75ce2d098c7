"""What a load costs: processor time and memory of the watched processes while the generator measures."""

import json
import os
import pathlib
import subprocess
import threading
import time

from parts import Failed

TICK = os.sysconf("SC_CLK_TCK")


def processes():
    """Parent and processor seconds (its own and of children that ended) of every process."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        found[int(entry.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICK)
    return found


def tree(root, found):
    members, grown = {root}, True
    while grown:
        more = {pid for pid, (parent, _) in found.items() if parent in members} - members
        members |= more
        grown = bool(more)
    return members & found.keys()


def cpu(watched):
    found = processes()
    return {name: sum(found[pid][1] for pid in tree(root, found)) for name, root in watched.items()}


def memory(root):
    """Proportional set size of a process and its children, in MiB."""
    total = 0
    for pid in tree(root, processes()):
        try:
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


class Meter:
    """Processor time and peak memory between `begin` and `end`."""

    def __init__(self, watched):
        self.watched = dict(watched)
        self.peak = dict.fromkeys(watched, 0.0)
        self.done = threading.Event()

    def begin(self):
        self.before, self.at = cpu(self.watched), time.monotonic()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        while True:
            for name, root in self.watched.items():
                self.peak[name] = max(self.peak[name], memory(root))
            if self.done.wait(2):
                return

    def end(self):
        after, seconds = cpu(self.watched), time.monotonic() - self.at
        self.done.set()
        self.thread.join()
        used = {name: after[name] - self.before[name] for name in after}
        return {"cpu_s": used, "seconds": seconds, "peak_mib": self.peak}


def load(generator, site, target, **options):
    """Runs the generator; gives its report with what the watched processes used while it measured."""
    command = [str(generator), "load", "--target", target]
    for key, value in options.items():
        if value is not None:
            command += [f"--{key}", str(value)]
    with open(site.dir / "generator.log", "ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    meter = Meter({**site.watched, "generator": process.pid})
    try:
        if "measuring" not in process.stdout.readline():
            raise Failed("the load did not begin")
        meter.begin()
        line = process.stdout.readline()
        # The generator's own time ends with it.
        used = meter.end()
        code = process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if not line:
        raise Failed(f"the load ended with {code}")
    report = json.loads(line)
    if report["outcomes"]["wrong"]:
        raise Failed(f"wrong answers: {report['reasons']}")
    if report["outcomes"]["error"] * 2 > report["requests"]:
        raise Failed(f"hardly an answer: {report['reasons']}")
    report.update(used)
    requests = max(report["requests"], 1)
    report["cpu_us"] = {name: 1e6 * seconds / requests for name, seconds in used["cpu_s"].items()}
    return report
