"""Results as tables and charts: docs/BENCHMARKS.md between its marks, and docs/images/bench-*.svg."""

import statistics
from html import escape

from contenders import ALL

LABELS = {one.key: one.label for one in ALL}
DURABLE = {one.key: one.durable for one in ALL}
STORES = {"postgres": "PostgreSQL", "sqlite": "SQLite"}
ANSWERS = {one.key: one.answers for one in ALL}
COLOURS = {
    "server": "#4c78a8",
    "ingress": "#4c78a8",
    "standalone": "#4c78a8",
    "nginx": "#9ecae9",
    "php-fpm": "#4c78a8",
    "consumer": "#f58518",
    "postgres": "#54a24b",
    "kafka": "#b279a2",
}


def write(results, path):
    """Puts a text for each result that is there between its marks."""
    page = path.read_text()
    images = path.parent / "images"
    for name, text in texts(results, images).items():
        begin, end = f"<!-- bench: {name} -->\n", "<!-- bench: end -->"
        if begin not in page:
            raise SystemExit(f"bench: {path} has no mark for {name}")
        before, rest = page.split(begin, 1)
        page = before + begin + "\n" + text.strip() + "\n\n" + end + rest.split(end, 1)[1]
    path.write_text(page)


def texts(results, images):
    found = {"machine": machine(results["machine"])}
    for name, make in (
        ("contenders", lambda rounds: compare(rounds, images)),
        ("drains", drains),
        ("sizes", sizes),
        ("clicks", clicks),
        ("connections", connections),
        ("storms", storms),
        ("overload", overload),
        ("sustained", sustained),
    ):
        if name in results:
            found[name] = make(results[name])
    return found


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def number(value):
    return f"{value:,.0f}"


def short(value):
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values, form=number, middle=None):
    low, high = min(values), max(values)
    middle = form(statistics.median(values) if middle is None else middle)
    return middle if len(values) == 1 else f"{middle} ({form(low)}–{form(high)})"


def machine(found):
    versions = ", ".join(f"{name} {found[name]}" for name in ("Kafka", "PostgreSQL", "Rust", "PHP", "nginx", "Go"))
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory']}, Linux {found['kernel']}; {versions}; "
        f"{found['date']}, commit {found['commit']}."
    )


def costs(report, without=("generator",)):
    return {name: cost for name, cost in report["cpu_us"].items() if name not in without}


def best(runs, key):
    """The fastest; of those whose answers tell the outcome only where (nearly) all of them did."""
    told = [report for report in runs["closed"] if ANSWERS[key] != "verdict" or report["final_percent"] >= 99.9]
    return max(told or runs["closed"], key=lambda report: report["answers_per_second"])


def compare(rounds, images):
    by_key = {}
    for entry in rounds:
        by_key.setdefault(entry["key"], []).append(entry["runs"])
    keys = [one.key for one in ALL if one.key in by_key]
    rates, rows, latencies = {}, [], []
    for key in keys:
        tops = [best(runs, key) for runs in by_key[key]]
        rates[key] = [report["answers_per_second"] for report in tops]
        middle = sorted(tops, key=lambda report: report["answers_per_second"])[(len(tops) - 1) // 2]
        rows.append([
            LABELS[key],
            spread(rates[key]),
            spread([report["connections"] for report in tops], middle=middle["connections"]),
            short(middle["latency_ms"]["p50"]),
            short(middle["latency_ms"]["p99"]),
            f"{middle['final_percent']:.1f}%" if ANSWERS[key] == "verdict" else "–",
            ", ".join(f"{name} {short(cost)}" for name, cost in costs(middle).items()),
            ", ".join(f"{name} {number(peak)}" for name, peak in middle["peak_mib"].items() if name != "generator"),
        ])
        for index, first in enumerate(by_key[key][0]["open"]):
            same = [runs["open"][index] for runs in by_key[key]]
            latencies.append([
                LABELS[key],
                number(first["rate"]),
                *(spread([report["latency_ms"][name] for report in same], short)
                  for name in ("p50", "p95", "p99", "p999")),
                f"{min(report['final_percent'] for report in same):.1f}%" if ANSWERS[key] == "verdict" else "–",
                sum(report["outcomes"]["error"] for report in same),
            ])
    bars = {LABELS[key]: {"answers/s": statistics.median(rates[key])} for key in keys}
    stacks = {LABELS[key]: costs(best(by_key[key][0], key)) for key in keys}
    images.mkdir(exist_ok=True)
    (images / "bench-answers.svg").write_text(chart("Answers per second, closed loop, best of its connections", bars))
    (images / "bench-cpu.svg").write_text(chart("Processor time per postback, µs", stacks))
    text = table(
        ["closed loop", "answers/s: median (spread)", "connections", "p50 ms", "p99 ms", "final",
         "µs of processor per postback", "peak MiB"], rows)
    text += "\n![Answers per second](images/bench-answers.svg)\n\n![Processor time per postback](images/bench-cpu.svg)\n\n"
    text += table(["open loop", "rate/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "final", "errors"], latencies)
    text += "\n" + table(["", "an answer says", "what it stands on"],
                         [[LABELS[key], {"verdict": "the outcome", "kept": "it is kept", "nothing": "nothing"}[ANSWERS[key]],
                           DURABLE[key]] for key in keys])
    return text


def drains(found):
    return table(
        ["", "records", "drained/s", "µs of processor per record", "consumer's peak MiB"],
        [[
            f"{entry['what']} into {STORES[entry['store']]}, "
            f"{entry['consumers']} consumer{'s' if entry['consumers'] > 1 else ''}",
            number(entry["count"]),
            number(entry["rate"]),
            ", ".join(f"{name} {short(cost)}" for name, cost in entry["cpu_us"].items()),
            number(entry["peak_mib"]),
        ] if entry["what"] != "alone" else [
            f"{STORES[entry['store']]} alone, the same conversions and log", number(entry["count"]), number(entry["rate"]),
            "–", "–",
        ] for entry in found])


def sizes(found):
    return table(
        ["clicks", "drained/s", "µs per postback: consumer", "PostgreSQL", "at rate/s", "p50 ms", "p99 ms", "final"],
        [[
            number(entry["clicks"]),
            number(entry["drain"]["rate"]),
            short(entry["drain"]["cpu_us"]["consumer-0"]),
            short(entry["drain"]["cpu_us"]["postgres"]),
            number(entry["answers"]["rate"]),
            short(entry["answers"]["latency_ms"]["p50"]),
            short(entry["answers"]["latency_ms"]["p99"]),
            f"{entry['answers']['final_percent']:.2f}%",
        ] for entry in found])


def clicks(found):
    beside = found["beside"]
    text = drains([{"what": "clicks", "store": "postgres", **drain} for drain in found["drains"]])
    return text + (
        f"\nA click takes {number(found['bytes_per_click'])} bytes with its indexes. "
        f"Postbacks for clicks that were known before, {beside['rate']}/s while as many clicks again were read: "
        f"{beside['final_percent']:.2f}% with a verdict, p50 {short(beside['latency_ms']['p50'])} ms, "
        f"p99 {short(beside['latency_ms']['p99'])} ms.\n"
    )


def connections(found):
    text = table(
        ["connections", "rate/s", "p50 ms", "p99 ms", "p99.9 ms", "final", "ingress µs", "ingress MiB"],
        [[
            number(report["connections"]),
            number(report["rate"]),
            short(report["latency_ms"]["p50"]),
            short(report["latency_ms"]["p99"]),
            short(report["latency_ms"]["p999"]),
            f"{report['final_percent']:.2f}%",
            short(report["cpu_us"]["ingress"]),
            number(report["peak_mib"]["ingress"]),
        ] for report in found["active"]])
    idle = found["idle"]
    return text + (
        f"\nWith {number(idle['idle'])} idle connections beside {idle['connections']} that send: the ingress never had "
        f"more than {number(idle['ingress_peak_mib'])} MiB.\n"
    )


def storms(found):
    total = {name: sum(costs(report).values()) for name, report in found.items()}
    return table(
        ["", "postbacks", "answers/s", "p99 ms", "final", "µs of processor per postback", "in all", "of the mix's"],
        [[
            {"mix": "10% duplicates, 5% unknown", "duplicate": "one clickid", "not-found": "unknown clickids"}[name],
            number(report["requests"]),
            number(report["answers_per_second"]),
            short(report["latency_ms"]["p99"]),
            f"{report['final_percent']:.1f}%",
            ", ".join(f"{process} {short(cost)}" for process, cost in costs(report).items()),
            short(total[name]),
            f"{total[name] / total['mix']:.2f}",
        ] for name, report in found.items()])


def overload(found):
    names = ("normal", "capacity", "overload")
    normal = found["normal"]["latency_ms"]["p99"]
    text = table(
        ["", "rate/s", "of the capacity", "p50 ms", "p99 ms", "of the normal p99", "final", "queued", "errors", "ingress's peak MiB"],
        [[
            name,
            number(found[name]["rate"]),
            f"{found[name]['share_of_capacity']:.1f}",
            short(found[name]["latency_ms"]["p50"]),
            short(found[name]["latency_ms"]["p99"]),
            f"{found[name]['latency_ms']['p99'] / normal:.1f}",
            f"{found[name]['final_percent']:.1f}%",
            number(found[name]["outcomes"]["queued"]),
            number(found[name]["outcomes"]["error"]),
            number(found[name]["ingress_peak_mib"]),
        ] for name in names])
    return text + f"\n{number(found['taken'])} postbacks were taken; the log has {number(found['logged'])}.\n"


def sustained(report):
    minutes = report["lags"][11::12] or report["lags"][-1:]
    return (
        f"{number(report['rate'])} postbacks/s for {number(report['seconds'])} s over {report['connections']} connections: "
        f"{number(report['requests'])} sent, {report['final_percent']:.3f}% with a verdict, "
        f"{report['outcomes']['error']} without an answer; p50 {short(report['latency_ms']['p50'])} ms, "
        f"p95 {short(report['latency_ms']['p95'])}, p99 {short(report['latency_ms']['p99'])}, "
        f"p99.9 {short(report['latency_ms']['p999'])}. The consumer's lag at each minute, in records: "
        f"{', '.join(number(lag) for lag in minutes)}. µs of processor per postback: "
        + ", ".join(f"{name} {short(cost)}" for name, cost in report["cpu_us"].items())
        + f". Peaks: ingress {number(report['ingress_peak_mib'])} MiB, consumer {number(report['consumer_peak_mib'])} MiB.\n"
    )


def chart(title, bars):
    """Horizontal stacked bars: label -> part -> value."""
    left, width, height, top = 330, 860, 26, 46
    most = max(sum(parts.values()) for parts in bars.values())
    names = sorted({name for parts in bars.values() for name in parts})
    bottom = top + height * len(bars) + (34 if len(names) > 1 else 10)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{bottom}" fill="#ffffff"/>',
        f'<text x="12" y="26" font-size="16" font-weight="bold" fill="#222222">{escape(title)}</text>',
    ]
    for row, (label, parts) in enumerate(bars.items()):
        y, x = top + row * height, float(left)
        lines.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end" fill="#222222">{escape(label.replace("`", ""))}</text>')
        for name, value in parts.items():
            size = value / most * (width - left - 90)
            colour = COLOURS.get(name, "#4c78a8")
            lines.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{size:.1f}" height="{height - 8}" fill="{colour}"/>')
            x += size
        total = sum(parts.values())
        told = number(total) if total >= 100 else short(total)
        lines.append(f'<text x="{x + 6:.1f}" y="{y + 16}" fill="#222222">{told}</text>')
    if len(names) > 1:
        x = left
        for name in names:
            lines.append(f'<rect x="{x}" y="{bottom - 22}" width="12" height="12" fill="{COLOURS.get(name, "#4c78a8")}"/>')
            lines.append(f'<text x="{x + 16}" y="{bottom - 12}" fill="#222222">{escape(name)}</text>')
            x += 28 + 8 * len(name)
    return "\n".join([*lines, "</svg>", ""])
