#!/usr/bin/env python3
"""Asks the reports role the same questions again and again, and prints a Markdown table.

usage: queries.py URL TOKEN ROUNDS MONTH_FROM MONTH_TO DAY ZONE_DAY CLICKID

Each question is asked once before it is measured. The time is the caller's, from the request to the
answer's last byte, over one connection that is kept alive. Loopback addresses only.
"""

import http.client
import json
import sys
import time
from urllib.parse import quote, urlsplit

CAMPAIGN = 1


class Asker:
    def __init__(self, url, token):
        target = urlsplit(url)
        if target.hostname not in ("127.0.0.1", "::1", "localhost"):
            sys.exit("queries.py: loopback addresses only")
        self.connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(self, path):
        begin = time.perf_counter()
        self.connection.request("GET", path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        taken = time.perf_counter() - begin
        if answer.status != 200:
            sys.exit(f"queries.py: {answer.status} {path}: {body.decode()}")
        return taken * 1000, json.loads(body)


def rows(answer):
    return next(value for value in answer.values() if isinstance(value, list))


def deep(asker, path, pages):
    """The page that comes after so many."""
    cursor = ""
    for _ in range(pages):
        _, answer = asker.ask(f"{path}&limit=1000{cursor}")
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    return f"{path}&limit=100{cursor}"


def main():
    url, token, rounds, start, end, day, zone_day, clickid = sys.argv[1:]
    asker = Asker(url, token)
    campaign = f"campaign_id={CAMPAIGN}"
    month = f"from={start}&to={end}"
    filtered = f"/v1/conversions?{campaign}&site_id=site-7&status=approved&currency=EUR"
    questions = [
        ("filtered first page", filtered),
        ("deep page", deep(asker, f"/v1/conversions?{campaign}", 100)),
        ("month by day", f"/v1/stats?{campaign}&{month}&group_by=day"),
        (
            "hour in a time zone",
            f"/v1/stats?{campaign}&from={zone_day}&to={end}&group_by=hour&tz={quote('Asia/Kolkata', safe='')}",
        ),
        ("by subid", f"/v1/stats?{campaign}&from={day}&to={day}&group_by=subid0"),
        ("log by clickid", f"/v1/postbacks?clickid={clickid}&history=1"),
    ]
    # Beyond the six: what the same costs when more is asked.
    beyond = [
        ("month by subid", f"/v1/stats?{campaign}&{month}&group_by=subid0", 3),
        ("month by site", f"/v1/stats?{campaign}&{month}&group_by=site", 3),
        ("month by day, all campaigns", f"/v1/stats?{month}&group_by=day", 3),
        ("a rare subid, first page", f"/v1/conversions?{campaign}&subid4=user2", 3),
    ]
    times = {}
    found = {}
    for name, path in questions:
        asker.ask(path)
    for _ in range(int(rounds)):
        for name, path in questions:
            taken, answer = asker.ask(path)
            times.setdefault(name, []).append(taken)
            found[name] = len(rows(answer))
    for name, path, often in beyond:
        for _ in range(often):
            taken, answer = asker.ask(path)
            times.setdefault(name, []).append(taken)
            found[name] = len(rows(answer))
    print("| query | rows | times | p50 ms | p95 ms | max ms |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, taken in times.items():
        taken.sort()
        at = lambda part: taken[min(len(taken) - 1, int(part * len(taken)))]
        print(
            f"| {name} | {found[name]} | {len(taken)} | {at(0.5):.1f} | {at(0.95):.1f} | {taken[-1]:.1f} |"
        )
    for name, path in questions + [one[:2] for one in beyond]:
        print(f"{name}: {path}", file=sys.stderr)


main()
