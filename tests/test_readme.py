"""What README, Makefile and docs say is what the code does and the ledger holds."""

import re
import tomllib
from pathlib import Path

from benchmarks import readme as results
from swiftlet.data.contract import InputContract
from swiftlet.report.gather import snippet

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_results_is_the_ledger() -> None:
    inside = README.partition(results.BEGIN)[2].partition(results.END)[0]
    assert inside.strip() == results.table(), "run python -m benchmarks.readme"


def test_the_commands_without_make_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    fit = re.search(r"\$\(BIN\)/swiftlet (fit .*)", makefile)
    assert fit is not None and f".venv/bin/swiftlet {fit[1]}" in README
    for line in README.splitlines():
        if "pip install" in line:
            assert "-c constraints.txt" in line
    assert "make demo" in README and "make test" in README and "--constraint constraints.txt" in makefile


def test_the_snippet_is_the_one_in_the_report() -> None:
    assert snippet(InputContract(side=24)) in README


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_pin_is_exact_and_every_dependency_pinned() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split("\n") if "==" in line)
    names = {name.lower().replace("_", "-") for name in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    for requirement in wanted:
        name = re.match(r"[\w-]+", requirement)
        assert name is not None
        assert name[0] == "swiftlet" or name[0].lower().replace("_", "-") in names, requirement
