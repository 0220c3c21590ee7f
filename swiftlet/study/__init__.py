"""Experiments on the user's own machine: what the papers claim about cost, timed here, with a verdict.

A study is a short module with `run(bench) -> Finding` and `draw(finding, figure)`. bench.py times its cases,
finding.py is what it returns, page.py writes table, picture and page. Rows of a Finding are all that `draw` reads.
"""

from importlib import import_module
from types import ModuleType

from swiftlet.errors import BadInput

# name on the command line -> the question that it answers; the module has the same name, with underscores
STUDIES = {
    "g1": "do equal channel widths save time at equal MACs?",
}


def get_study(name: str) -> ModuleType:
    """The module of that name; BadInput lists the known ones."""
    if name not in STUDIES:
        raise BadInput(f"unknown study {name!r}; known: {', '.join(STUDIES)}")
    return import_module(f"swiftlet.study.{name.replace('-', '_')}")
