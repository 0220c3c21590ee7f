"""The tables of docs/families: every published variant of a family's networks, counted from the code."""

from __future__ import annotations

from pathlib import Path

from swiftlet.catalogue import Row, catalogue
from swiftlet.zoo import card, list_models

PAGES = Path(__file__).parent.parent / "families"
BEGIN, END = "<!-- variants -->", "<!-- /variants -->"


def families() -> dict[str, list[str]]:
    """The networks of each family."""
    found: dict[str, list[str]] = {}
    for name in list_models():
        found.setdefault(card(name).family, []).append(name)
    return found


def with_table(page: str, networks: list[str]) -> str:
    """The text of a page with the table between its markers made anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(networks)}\n{END}{rest.partition(END)[2]}"


def table(networks: list[str]) -> str:
    """Markdown: one line per variant."""
    lines = [
        "| network | arguments | input | parameters, M | multiply-adds, M | int8-safe | top-1, % | printed in |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [_line(row) for network in networks for row in catalogue(network)])


def _line(row: Row) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in row.arguments.items())
    cells = (
        f"`{row.network}`",
        f"`{arguments}`" if arguments else "",
        str(row.side),
        millions(row.cost.params or 0),
        millions(row.cost.macs or 0),
        "yes" if row.int8_safe else "no",
        "" if row.top1 is None else percent(row.top1),
        row.source,
    )
    return f"| {' | '.join(cells)} |"


def millions(number: int) -> str:
    """Three digits at least: 0.267, 3.50, 300.8."""
    millions = number / 1e6
    return f"{millions:,.{3 if millions < 1 else 2 if millions < 10 else 1}f}"


def percent(number: float) -> str:
    """As printed, in two decimals at most: 72.0, 71.32."""
    return f"{number:.{1 if round(number, 1) == number else 2}f}"
