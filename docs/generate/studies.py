"""The tables of verdicts in docs/studies.md, from the ledger: this machine's and a GPU's."""

import json

from docs.generate.zoo import DOCS
from swiftlet.study import STUDIES

RESULTS = DOCS.parent / "benchmarks" / "results"
BEGIN, END = "<!-- {} -->", "<!-- /{} -->"


def with_verdicts(page: str) -> str:
    """The page with the verdicts of the last runs between its marks."""
    for mark, table in (("verdicts", verdicts), ("gpu", gpu_verdicts)):
        before, _, rest = page.partition(BEGIN.format(mark))
        after = rest.partition(END.format(mark))[2]
        page = f"{before}{BEGIN.format(mark)}\n{table()}\n{END.format(mark)}{after}"
    return page


def verdicts() -> str:
    """Markdown: one line per study that ran, then the command, where and when each ran, and which did not."""
    ledger = json.loads((RESULTS / "studies.json").read_text())
    lines = ["| study | verdict | measured |", "|---|---|---|"]
    places: dict[str, list[str]] = {}
    waiting: list[str] = []
    for name in STUDIES:
        found = ledger["figures"].get(name)
        if found is None:
            waiting.append(name)
            continue
        lines.append(f"| {name} | **{found['verdict']}** | {found['sentence']} |")
        places.setdefault(f"{found['machine'].partition(';')[0]}, {found['date']}", []).append(name)
    where = "; ".join(f"{', '.join(names)} on {place}" for place, names in places.items())
    source = f"`{ledger['command']}`: {where}. One run on one machine: yours may say otherwise."
    if waiting:
        source += f" Not run for these pages yet: {', '.join(waiting)}."
    return "\n".join([*lines, "", source])


def gpu_verdicts() -> str:
    """Markdown: one line per study that ran on a GPU, then its name and the command."""
    ledger = json.loads((RESULTS / "gpu.json").read_text())
    figures = ledger["figures"]
    lines = ["| study | batch 8 | batch 1 | measured at batch 8 |", "|---|---|---|---|"]
    for name in STUDIES:
        found = figures["studies"].get(name)
        if found is not None:
            one = found.get("batch 1", {}).get("verdict", "not run")
            lines.append(f"| {name} | **{found['batch 8']['verdict']}** | {one} | {found['batch 8']['sentence']} |")
    source = f"{figures['gpu']}, {ledger['versions']['torch']} of PyTorch; `{ledger['command']}`, {ledger['date']}."
    return "\n".join([*lines, "", source])
