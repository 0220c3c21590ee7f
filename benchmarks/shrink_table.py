"""What follows from the rows of the shrinking benchmark, and the table in docs/shrinking.md, made from the ledger."""

import json
from pathlib import Path
from typing import Any

from benchmarks.ledger import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "shrinking.md"
BEGIN, END = "<!-- shrink -->", "<!-- /shrink -->"
OURS = {"swiftlet shrink": "onnxruntime", "swiftlet shrink for OpenVINO": "openvino"}  # --runtime; the faster is judged
EQUAL = 0.2  # points below ours, at most, for a file to count as accurate as ours
FASTER, NETWORKS = 1.3, 2  # times as fast as the best of the others, on so many networks: the goal
Row = dict[str, Any]


def judged(rows: list[Row]) -> Row:
    """The faster of ours against all others that are as accurate, or more so; if none is, against the most accurate.

    Each row has accuracy in percent, bytes, and, against ours, points_below_ours and times_as_long with their 95 %
    intervals; a row with `failed` has none of these. not_surely_worse: smaller or faster than ours and more than EQUAL
    below it, but by so few pictures that it may be luck; more_accurate: more than EQUAL above ours.
    """
    done = [row for row in rows if "failed" not in row]
    ours = min((row for row in done if row["method"] in OURS), key=lambda row: float(row["ms"]))
    others = [row for row in done if row["method"] not in OURS]
    equal = [row for row in others if row["accuracy"] >= round(ours["accuracy"] - EQUAL, 2)]
    compared = equal or [max(others, key=lambda row: float(row["accuracy"]))]
    better = [row for row in others if row["bytes"] < ours["bytes"] or row["times_as_long"][0] < 1]
    fastest = min(compared, key=lambda row: float(row["times_as_long"][0]))
    smallest = min(compared, key=lambda row: int(row["bytes"]))
    return {
        "as_accurate": [row["method"] for row in equal],
        "more_accurate": [row["method"] for row in equal if row["accuracy"] > round(ours["accuracy"] + EQUAL, 2)],
        "not_surely_worse": [
            row["method"] for row in better if row not in equal and row["points_below_ours"][1] <= EQUAL
        ],
        "smallest_other": smallest["method"],
        "times_smaller": round(smallest["bytes"] / ours["bytes"], 2),
        "fastest_other": fastest["method"],
        "times_faster": fastest["times_as_long"],
    }


def goal(verdicts: list[Row]) -> Row:
    """Ours the smallest and the fastest everywhere, and FASTER times as fast on NETWORKS of them."""
    faster = [verdict["times_faster"][0] for verdict in verdicts]
    found = {
        "smallest_on": sum(verdict["times_smaller"] >= 1 for verdict in verdicts),
        "fastest_on": sum(times >= 1 for times in faster),
        f"{FASTER:g}_times_faster_on": sum(times >= FASTER for times in faster),
    }
    everywhere = found["smallest_on"] == found["fastest_on"] == len(verdicts)
    return found | {"reached": everywhere and found[f"{FASTER:g}_times_faster_on"] >= NETWORKS}


def table(entry: dict[str, Any]) -> str:
    """Markdown of a ledger entry: one table for each network, and what follows from it."""
    lines = []
    for network in entry["figures"]["networks"]:
        lines += [
            f"**{network['name']}**, {network['n']:,} test pictures",
            "",
            "| | run by | accuracy (95 %) | points below ours (95 %) | ms | KB | minutes |",
            "|---|---|---|---|---|---|---|",
            *map(_line, network["rows"]),
            "",
            _sentence(network["judged"]),
            "",
        ]
    found = entry["figures"]["goal"]
    count = len(entry["figures"]["networks"])
    faster = f"{FASTER:g}_times_faster_on"
    lines.append(
        f"The goal, the smallest and fastest file of all that are as accurate (at most {EQUAL:g} points below ours) "
        f"on all {count} networks and {FASTER:g} times as fast on {NETWORKS}: "
        f"{'reached' if found['reached'] else 'missed'} (smallest on {found['smallest_on']}, fastest on "
        f"{found['fastest_on']}, {FASTER:g} times as fast on {found[faster]}). "
        f"{entry['machine'].partition(';')[0]}; `{entry['command']}` ({entry['date']})."
    )
    return "\n".join(lines)


def _line(row: Row) -> str:
    if "failed" in row:
        return f"| {row['method']} | {row['runtime']} | failed: {row['failed']} | | | | |"
    low, high = row["interval"]
    below, least, most = row["points_below_ours"]
    return (
        f"| {row['method']} | {row['runtime']} | {row['accuracy']:.2f} % ({low:.2f} to {high:.2f}) | "
        f"{below:+.2f} ({least:+.2f} to {most:+.2f}) | {row['ms']:.3f} | {row['bytes'] / 1000:.1f} | "
        f"{row['minutes']:.1f} |"
    )


def _sentence(verdict: Row) -> str:
    times, low, high = verdict["times_faster"]
    equal = f"As accurate: {', '.join(verdict['as_accurate'])}. "
    said = equal if verdict["as_accurate"] else "No other is as accurate; compared is the most accurate of them. "
    said += (
        f"The fastest of those, {verdict['fastest_other']}, takes {times:.2f} x our time "
        f"({low:.2f} to {high:.2f}); the smallest, {verdict['smallest_other']}, {verdict['times_smaller']:.2f} x our "
        "bytes."
    )
    for key, what in (
        ("more_accurate", f"More than {EQUAL:g} points above ours"),
        ("not_surely_worse", "Smaller or faster, and below ours by no more than luck may be"),
    ):
        said += f" {what}: {', '.join(verdict[key])}." if verdict[key] else ""
    return said


def with_table(page: str) -> str:
    """docs/shrinking.md with the table of the ledger."""
    before, _, rest = page.partition(BEGIN)
    made = table(json.loads((RESULTS / "shrink.json").read_text()))
    return f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
