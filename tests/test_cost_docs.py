"""docs/counting.md says what the code does: its examples are executed, its tables compared with the ledger."""

import doctest
import json
import re
from pathlib import Path

import pytest

from benchmarks.memory import table
from swiftlet.cost.count import count_model, count_onnx
from swiftlet.cost.tally import RULE
from swiftlet.data.contract import InputContract
from swiftlet.export.untrained import untrained_files
from swiftlet.zoo import create_model

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/counting.md").read_text()


def between(mark: str) -> str:
    return PAGE.partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0].strip()


def test_the_examples():
    blocks = re.findall(r"```pycon\n(.*?)```", PAGE, re.S)
    assert len(blocks) == PAGE.count("```") / 2 > 15
    parser, runner, names = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False), {}
    for block in blocks:
        example = parser.get_doctest(block, names, "docs/counting.md", None, PAGE[: PAGE.index(block)].count("\n"))
        printed: list[str] = []
        runner.run(example, out=printed.append, clear_globs=False)
        names = example.globs
        assert not printed, "".join(printed)
    assert runner.summarize(verbose=False).attempted > 30


def test_the_table_of_memory_is_the_ledger():
    figures = json.loads((ROOT / "benchmarks/results/memory.json").read_text())["figures"]
    assert between("memory") == table(figures)


@pytest.mark.parametrize(("name", "width"), [("mobilenet_v1", 0.25), ("shufflenet_v2", 0.5)])
def test_our_int8_files_are_a_little_larger(name, width):
    model = create_model(name, width=width)
    file = untrained_files(model, InputContract(side=64))["int8"]
    counted = count_model(model, (3, 64, 64)).int8_bytes
    assert "int8 files are up to 6 % larger" in " ".join(PAGE.split())
    assert 1 < len(file) / counted <= 1.06 and count_onnx(file).int8_bytes == counted


def test_every_figure_of_the_rule_is_on_the_page():
    for figure in re.findall(r"(\w+):", RULE):
        assert figure.replace("_", " ").removesuffix("activation") in PAGE.replace("element-wise", "elementwise"), (
            figure
        )
