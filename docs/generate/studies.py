"""The table of verdicts in docs/studies.md, from the ledger."""

import json

from docs.generate.zoo import DOCS
from swiftlet.study import STUDIES

LEDGER = DOCS.parent / "benchmarks" / "results" / "studies.json"
BEGIN, END = "<!-- verdicts -->", "<!-- /verdicts -->"


def with_verdicts(page: str) -> str:
    """The page with the verdicts of the last run between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{verdicts()}\n{END}{rest.partition(END)[2]}"


def verdicts() -> str:
    """Markdown: one line per study, then the machine and the command."""
    ledger = json.loads(LEDGER.read_text())
    lines = ["| study | verdict | measured |", "|---|---|---|"]
    for name in STUDIES:
        found = ledger["figures"][name]
        lines.append(f"| {name} | **{found['verdict']}** | {found['sentence']} |")
    machine = ledger["machine"].partition(";")[0]
    source = f"{machine}; `{ledger['command']}`, {ledger['date']}. One run on one machine: yours may say otherwise."
    return "\n".join([*lines, "", source])
