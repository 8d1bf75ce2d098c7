"""A line of overload.sh: what two readings of an ingress' metrics differ by."""

import json
import sys


def read(path):
    """Series and their values."""
    with open(path, encoding="utf-8") as lines:
        pairs = (line.rsplit(" ", 1) for line in lines)
        return {name: float(value) for name, value in pairs}


def answered(values, statuses):
    """Postbacks that were answered with one of these statuses."""
    return sum(
        value
        for name, value in values.items()
        if name.startswith("postern_http_requests_total{")
        and 'route="postback"' in name
        and any(f'status="{status}"' in name for status in statuses)
    )


def quantile(values, wanted):
    """Of the answers that took a postback, linear within a bucket, in milliseconds."""
    buckets = {}
    for name, value in values.items():
        taken = any(f'outcome="{word}"' in name for word in ("converted", "duplicate", "queued"))
        if name.startswith("postern_answer_seconds_bucket") and taken:
            bound = float(name.split('le="')[1].split('"')[0].replace("+Inf", "inf"))
            buckets[bound] = buckets.get(bound, 0) + value
    rank = wanted * max(buckets.values(), default=0)
    low, below = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= rank and count > below:
            if bound == float("inf"):
                return low * 1000
            return (low + (bound - low) * (rank - below) / (count - below)) * 1000
        low, below = bound, count
    return 0.0


def distribution(path, percent):
    """What wrk says of all its answers, in milliseconds."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if len(words) == 2 and words[0] == f"{percent}%":
                for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0)):
                    if words[1].endswith(unit):
                        return float(words[1][: -len(unit)]) * factor
    raise SystemExit(f"{path}: no {percent}%")


def main():
    """Prints the line, or with `taken` how many were taken in all."""
    if sys.argv[1] == "taken":
        print(int(answered(read(sys.argv[2]), (200, 202))))
        return
    name, connections, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    before, after = read(sys.argv[4]), read(sys.argv[5])
    values = {name: value - before.get(name, 0.0) for name, value in after.items()}
    taken, refused = answered(values, (200, 202)), answered(values, (429, 503))
    # From the time at which a postback was due, as a few callers saw it.
    with open(sys.argv[7], encoding="utf-8") as text:
        seen = json.load(text)["latency_ms"]
    with open(sys.argv[6], encoding="utf-8") as lines:
        resident = [int(line) / 1024 for line in lines]
    print(
        f"| {name} | {connections} | {(taken + refused) / seconds:.0f} | {taken / seconds:.0f} "
        f"| {refused / seconds:.0f} "
        f"| {distribution(sys.argv[8], 50):.1f} ms | {distribution(sys.argv[8], 99):.1f} ms "
        f"| {quantile(values, 0.5):.1f} ms | {quantile(values, 0.99):.1f} ms "
        f"| {seen['p50']:.1f} ms | {seen['p99']:.1f} ms "
        f"| {resident[0]:.0f} MiB | {max(resident):.0f} MiB |"
    )


main()
