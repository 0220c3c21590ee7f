"""Pictures, tables and code of the family pages are what the code makes and accepts today."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from benchmarks import shrink_table
from docs.generate.accuracy import with_accuracies
from docs.generate.blocks import Branch, Fork, block, operations
from docs.generate.families import PAGES, families, with_table
from docs.generate.figures import COMPARISONS, FIGURES, at, draw
from docs.generate.studies import with_verdicts
from docs.generate.zoo import DOCS, published_page, zoo_page
from swiftlet.cost.count import count_model
from swiftlet.shrinking import ladder, smaller, workplace
from swiftlet.study import STUDIES
from swiftlet.zoo import create_model

STALE = "run python -m docs.generate"


@pytest.mark.parametrize("name", COMPARISONS)
def test_picture(name: str) -> None:
    svg = (FIGURES / f"{name}.svg").read_text()
    assert svg == draw(name), STALE
    assert len(svg) < 60_000 and "href" not in svg
    ElementTree.fromstring(svg)


def test_every_picture_is_drawn_and_shown() -> None:
    assert {file.stem for file in FIGURES.iterdir()} == set(COMPARISONS)
    shown = {Path(name).stem for page in PAGES.glob("*.md") for name in re.findall(r"[\w/.]+\.svg", page.read_text())}
    assert shown == set(COMPARISONS)


@pytest.mark.parametrize("name", COMPARISONS)
def test_nothing_is_left_out_of_a_picture(name: str) -> None:
    for _, make in COMPARISONS[name].blocks:
        module, shape = make()
        drawn = sum(op.macs for op in operations(block(module.to("meta"), shape)))
        assert drawn == count_model(module, shape).cost.macs


def test_a_picture_follows_the_code() -> None:
    def main(**arguments: object) -> Branch:
        tree = block(*at("mobilenet_v2", "stages.1.1", **arguments)())
        (fork,) = tree.items
        assert isinstance(fork, Fork) and fork.branches[0].items == ()
        return fork.branches[1]

    tree = main()
    assert [op.title for op in operations(tree)] == ["1×1 conv", "3×3 depthwise", "1×1 conv"]
    assert [op.details for op in operations(tree)] == [("BN", "ReLU6"), ("BN", "ReLU6"), ("BN",)]
    assert [op.shape[0] for op in operations(tree)] == [144, 144, 24]
    assert [op.shape[0] for op in operations(main(expansion=4))] == [96, 96, 24]


@pytest.mark.parametrize("family", families())
def test_page(family: str) -> None:
    page = (PAGES / f"{family}.md").read_text()
    assert page == with_table(page, families()[family]), STALE
    assert f"({family}.md)" in (PAGES / "README.md").read_text()
    (code,) = re.findall(r"```python\nswiftlet\.create_model\((.*)\)\n```", page)
    with torch.device("meta"):
        eval(f"create_model({code})", {"create_model": create_model})


def test_the_pages_of_the_zoo_are_current() -> None:
    assert (DOCS / "zoo.md").read_text() == zoo_page(), STALE
    assert (DOCS / "published.md").read_text() == published_page(), STALE


def test_the_verdicts_of_the_studies_are_those_of_the_ledger() -> None:
    page = (DOCS / "studies.md").read_text()
    assert page == with_verdicts(page), STALE
    shown = set(re.findall(r"\(studies/([\w-]+)\.png\)", page))
    ran = set(json.loads((DOCS.parent / "benchmarks" / "results" / "studies.json").read_text())["figures"])
    assert shown == ran == {file.stem for file in (DOCS / "studies").glob("*.png")} and ran <= set(STUDIES)
    assert set(STUDIES) <= {heading.partition(":")[0] for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)}
    on_gpu = set(re.findall(r"\(studies/gpu/([\w-]+)\.png\)", page))
    assert on_gpu == {file.stem for file in (DOCS / "studies" / "gpu").iterdir()} and on_gpu < set(STUDIES)


def test_the_accuracies_are_those_of_the_ledger() -> None:
    page = (DOCS / "accuracy.md").read_text()
    assert page == with_accuracies(page), STALE
    digits = figures("accuracy")["mnist"]["resnet20-0.1875"]
    size, params = digits["runs"][0]["bytes"] / 1000, digits["runs"][0]["params"]
    said = f"{params:,} parameters in a {size:.1f} KB int8 file reach {digits['mean_accuracy_percent']['int8']} %"
    assert said in (DOCS.parent / "README.md").read_text().replace("\n", " ")


def test_the_tables_of_pack_and_factorize_are_the_ledger() -> None:
    packed, page = figures("pack")["networks"], (DOCS / "pack.md").read_text()
    for network in packed.values():
        for size in ("bytes", "zlib_9_bytes", "xz_9_bytes", "packed_bytes"):
            assert f"{network[size]:,}" in page
        for over in ("words", "all"):
            assert f"| {network['percent_over_entropy'][over]:.2f} %" in page
    names = [
        next(name for name in packed if part in name) for part in ("Squeeze", "MobileNet", "float32 ONNX", "int8 ONNX")
    ]
    for kind in ("python", "javascript"):
        assert ", ".join(f"{packed[name]['mb_per_second_float32'][kind]:g}" for name in names) in page
    made, page = figures("factorize"), (DOCS / "factorize.md").read_text()
    for method in ("svd", "spatial", "tucker"):
        cells = [made["accuracy_percent"][f"{method} {kind}"] for kind in (
            "0.75 weights", "0.75 images", "0.5 weights", "0.5 images"
        )]  # fmt: skip
        assert f"| `{method}` | {' | '.join(map(str, cells))} |" in page.replace("**", "")
    for row in made["speed"]:
        faster = row["times_as_fast"]
        cells = [f"{faster[f'{method} 0.5']:.2f}, {faster[f'{method} 0.25']:.2f}" for method in (
            "svd", "spatial", "cp", "tucker"
        )]  # fmt: skip
        assert f" x {row['side']} | {row['ms']:.2f} | {' | '.join(cells)} |" in page


def test_the_page_of_the_container_counts_damaged_files_as_the_ledger_does() -> None:
    found, page = figures("mutants"), (DOCS / "pack.md").read_text()
    assert f"{found['refused']:,} damaged ONNX files refused, {found['ran']:,} run, no death" in page
    assert found["harm"] == {}


def test_the_page_of_shrinking_says_what_the_code_takes() -> None:
    page = (DOCS / "shrinking.md").read_text()
    for said in (
        f"heals {workplace.HEALED:g} of it for each point",
        f"no more than {workplace.MOST:g} in all",
        f"the teacher's part of a step, {workplace.ASKED:g} of it",
        f"({ladder.CLOSE:g} standard error of an accuracy",
        f"the first rung gets {ladder.FIRST:g} of the minutes",
        f"{ladder.TAUGHT:g} of\nit are training steps",
        f"multiples of {smaller.STEP} pixels",
    ):
        assert said in page, said


def test_the_table_of_shrinking_is_the_ledger() -> None:
    page = (DOCS / "shrinking.md").read_text()
    assert page == shrink_table.with_table(page), "run python -m benchmarks.shrink_table"


def figures(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS.parent / "benchmarks" / "results" / f"{name}.json").read_text())["figures"]
    return found
