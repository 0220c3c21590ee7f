"""Every study: its cases, its verdicts on planted times, its figure and its page."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import Open
from PIL import Image
from test_cli import run as command

from swiftlet.cost.count import count_model
from swiftlet.cost.screen import read_onnx
from swiftlet.errors import BadInput, MissingExtra
from swiftlet.runtime.measurement import Measurement
from swiftlet.runtime.operations import Operation
from swiftlet.study import STUDIES, get_study, page
from swiftlet.study.bench import Bench, Case, Timing, TrainStep, ratio
from swiftlet.study.finding import Finding, Table
from swiftlet.study.page import png, write
from swiftlet.study.run import run_study
from swiftlet.study.timed.separable import PUBLISHED as TABLE_2

ROUNDS = 9
Cost = Callable[[Timing, Case | None], float]  # planted milliseconds; a program of the study's own has no case
QUICK = Bench(runtimes=("onnxruntime", "torch"), quick=True)


def macs(timing: Timing, case: Case | None) -> float:
    if case is None:  # gemm's products, all of 32 channels at 14 x 14
        return 32 * 32 * 14 * 14 * (1 if timing.label == "product of the 1x1" else 9)
    return max(1.0, count_model(case.module, case.input).cost.macs or 0)


def traffic(timing: Timing, case: Case | None) -> float:
    assert case is not None
    return count_model(case.module, case.input).cost.memory_access_bytes or 0


def layers(timing: Timing, case: Case | None) -> float:
    return 1.0 if case is None else 1 + sum(layer.macs > 0 for layer in count_model(case.module, case.input).layers)


def same(timing: Timing, case: Case | None) -> float:
    return 1.0


def slow_swish(timing: Timing, case: Case | None) -> float:
    return 2.0 if timing.label == "h-swish" else 1.0


def slow_3x3(timing: Timing, case: Case | None) -> float:
    return macs(timing, case) * (2 if timing.label.startswith("3x3") else 1)


def square_root(timing: Timing, case: Case | None) -> float:
    return macs(timing, case) ** 0.5


# what makes the claim hold, and what makes it fail
CLAIMS: dict[str, tuple[Cost, Cost]] = {
    "g1": (traffic, macs),
    "g2": (traffic, macs),
    "g3": (traffic, macs),
    "g4": (traffic, macs),
    "separable": (macs, same),
    "gemm": (slow_3x3, square_root),
    "kernels": (macs, layers),
    "fused": (layers, macs),
    "activations": (same, slow_swish),
}


def plant(monkeypatch: pytest.MonkeyPatch, cost: Cost, noise: float = 0.0) -> None:
    """Bench.times gives these milliseconds, with lognormal noise of its own for each contestant and round."""
    random = np.random.default_rng(0)

    def times(self: Bench, cases, *, train=False, programs=None, what="racing"):
        timings = {Timing(case.label, runtime): case for case in cases for runtime in self.runtimes}
        timings |= {Timing(case.label, "torch", "train"): case for case in cases if train}
        timings |= dict.fromkeys(programs or ())
        found = {}
        for timing, case in timings.items():
            rounds = cost(timing, case) * random.lognormal(0, noise, ROUNDS)
            p50 = float(np.median(rounds))
            found[timing] = Measurement(
                p50_ms=p50, p90_ms=p50, interval_ms=(p50, p50), n=ROUNDS, runtime=timing.runtime, threads=1, batch=1,
                machine="", stable=True, rounds_ms=tuple(rounds.tolist()),
            )  # fmt: skip
        return found

    def one_ms_each(file: bytes, *where: object) -> tuple[Operation, ...]:
        nodes = read_onnx(file).graph.node
        return tuple(Operation(name=node.name or node.output[0], op=node.op_type, ms=1.0) for node in nodes)

    monkeypatch.setattr(Bench, "times", times)
    monkeypatch.setattr("swiftlet.study.timed.separable.operations", one_ms_each)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finding]:
    def study(name: str, cost: Cost | None = None, noise: float = 0.0) -> Finding:
        plant(monkeypatch, cost or CLAIMS[name][0], noise)
        return get_study(name).run(QUICK)

    return study


@pytest.mark.parametrize("name", CLAIMS)
def test_verdicts_on_planted_times(planted: Callable[..., Finding], name: str) -> None:
    holds, fails = CLAIMS[name]
    assert planted(name, holds).verdict == "holds"
    assert planted(name, fails).verdict == "fails"
    assert planted(name, holds, noise=2.0).verdict == "cannot tell"


@pytest.mark.parametrize("name", CLAIMS)
def test_a_finding_and_its_files(planted: Callable[..., Finding], tmp_path: Path, name: str) -> None:
    finding = planted(name, noise=0.1)
    assert finding.study == name and "95 %" in finding.sentence and finding.claim and finding.published
    for table in (*finding.measured, *finding.published):
        assert table.rows and table.source and {len(row) for row in table.rows} == {len(table.columns)}
    paths = write(replace(finding, machine="a machine", command="swiftlet study", date="2026-01-01"), tmp_path)
    assert json.loads(paths["json"].read_text())["verdict"] == finding.verdict
    picture = Image.open(io.BytesIO(paths["png"].read_bytes()))
    assert picture.width >= 1300 and picture.height >= 700
    shades = np.asarray(picture.convert("L"))
    assert 0.005 < (shades < 200).mean() < 0.5, "a figure is mostly paper, and not empty"
    html = paths["html"].read_text()
    assert html.count("<table>") == len(finding.measured) + len(finding.published)
    assert ">nan<" not in html and f'<b class="{finding.verdict.replace(" ", "-")}">' in html


def rows_of(finding: Finding, **equal: str) -> Table:
    return finding.measured[0].where(runtime="onnxruntime", **equal)


def test_macs_are_equal_where_a_study_says_so(planted: Callable[..., Finding]) -> None:
    g1, g2, g3, g4 = (planted(name, same) for name in ("g1", "g2", "g3", "g4"))
    assert set(rows_of(g1, series="aligned widths, 14 x 14").column("MACs")) == {20 * 128 * 128 * 14 * 14}
    hw, c1, c2 = 14 * 14, 32, 512  # section 2.1's memory access, and the biases
    (moved,) = rows_of(g1, series="aligned widths, 14 x 14", **{"c1:c2": "1:16"}).column("MB moved")
    assert moved == pytest.approx(4e-6 * 10 * (2 * (hw * (c1 + c2) + c1 * c2) + c1 + c2))
    assert min(rows_of(g1, series="paper's widths, 14 x 14").column("x MACs")) == pytest.approx(0.949, abs=1e-3)
    for finding in (g2, g3):
        for series, off in (("aligned widths, 7 x 7", 0.004), ("paper's widths, 7 x 7", 0.012)):
            assert all(abs(x - 1) < off for x in rows_of(finding, series=series).column("x MACs"))
    parallel = [rows_of(g3, fragments=f"{n} parallel").column("x MACs") for n in (2, 4)]
    assert parallel == [[1, 1], [1, 1]]
    units = rows_of(g4).column("MACs")
    assert set(units[:4]) == {10 * 14 * 14 * 32 * (32 + 9 + 32)} and units[4:] == [0, 0, 0]
    activations = planted("activations", same)
    assert set(rows_of(activations).column("x MACs")[4:8]) == {1}


def test_aligned_widths_are_multiples_of_16() -> None:
    g1, g2, g3 = (get_study(name) for name in ("g1", "g2", "g3"))
    assert all(c % 16 == 0 for pair in g1.ALIGNED.values() for c in pair)
    assert all(c % (16 * groups) == 0 for groups, c in g2.ALIGNED.items())
    channels, narrow = g3.ALIGNED
    assert all(c % 16 == 0 for c in (channels, channels // 2, channels // 4, *narrow.values()))


def test_separable_counts_as_the_papers_formula_and_table_2(planted: Callable[..., Finding]) -> None:
    finding = planted("separable", macs)
    sweep, crossings, shares = finding.measured
    for n, k, times in zip(*(sweep.column(name) for name in ("channels", "kernel", "x MACs")), strict=True):
        assert times == pytest.approx(1 / (1 / n + 1 / k**2))
    for kind, of_macs, of_params in TABLE_2.rows:
        (ours,) = shares.where(kind=kind).rows
        printed = 1.91 if kind == "conv 3x3" else of_macs
        assert ours[1] == pytest.approx(printed, abs=0.006) and ours[2] == pytest.approx(of_params, abs=0.006)
    assert all(sum(shares.column(name)) == pytest.approx(100) for name in shares.columns[1:])
    pointwise, depthwise, dense, linear, _ = shares.column("% of time, torch")
    assert pointwise == depthwise == pytest.approx(13 * dense) and dense == linear > 0
    assert set(crossings.column("dense wins up to")) == {None} and set(crossings.column("separable wins from")) == {3}
    slow = planted("separable", lambda timing, case: 1.0 if timing.label == "dense" else 2.0)
    assert set(slow.measured[1].column("dense wins up to")) == {64}
    assert "dense is the faster one up to 64 channels at side 14" in slow.sentence


def test_kernels_have_the_published_macs(planted: Callable[..., Finding]) -> None:
    finding = planted("kernels", macs)
    for large, small, x_macs, _ in finding.published[0].rows:
        series = "dense, size" if large == "3x3" else f"dense, in place of {large}"
        assert rows_of(finding, series=series, kernel=small).column("x MACs") == [pytest.approx(x_macs)]


def test_a_search_for_a_cpu_chose_no_full_convolution() -> None:
    chosen, _ = get_study("fused").published()
    assert chosen.rows[0] == ("CPU", 19, 0, 0) and chosen.rows[3][:3] == ("GPU", 1, 17)
    assert [sum(row[1:]) for row in chosen.rows] == [19, 22, 22, 22]


# g4 has operations alone and sums, gemm programs of its own, fused int8; the rest differs in sizes
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("g4", "gemm", "fused") else pytest.mark.slow) for name in CLAIMS]
)
def test_a_study_runs(name: str) -> None:
    seen = []
    bench = Bench(runtimes=("onnxruntime",), seconds=0.002, quick=True, progress=lambda *step: seen.append(step))
    finding = get_study(name).run(bench)
    milliseconds = [name for name in finding.measured[0].columns if name == "ms" or name.endswith(" ms")]
    assert milliseconds and all(ms > 0 for column in milliseconds for ms in finding.measured[0].column(column))
    assert seen and all(0 < done <= total and what.startswith("racing, ") for what, done, total in seen)
    assert len(png(finding)) > 20_000


def test_the_race_of_a_bench_with_training_and_other_programs() -> None:
    case = get_study("separable")._case(get_study("separable").QUICK, dense=True)
    step = TrainStep(case, 1, "torch")
    assert step.run(np.ones((2, *case.input), np.float32)) == []
    assert all(p.grad is not None and p.grad.any() for p in step._module.parameters())
    assert all(p.grad is None for p in case.module.parameters()), "the case itself is left alone"
    bench = Bench(runtimes=("torch",), seconds=0.01, batch=2)
    times = bench.times([case], train=True, programs={Timing("own", "here"): TrainStep(case, 1, "torch")})
    assert set(times) == {Timing("dense", "torch"), Timing("dense", "torch", "train"), Timing("own", "here")}
    assert ratio(times, Timing("own", "here"), Timing("own", "here")) == (1, 1, 1)
    with pytest.raises(BadInput, match="two cases have one label"):
        bench.times([case, case])
    with pytest.raises(BadInput, match="at least one runtime"):
        Bench(runtimes=())
    with pytest.raises(BadInput, match="unknown runtime 'abacus'"):
        Bench(runtimes=("abacus",))


def test_unknown_study_and_missing_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown study 'g5'; known: g1, g2"):
        get_study("g5")
    plant(monkeypatch, lambda timing, case: pytest.fail("timed before it was known that nothing can be drawn"))
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"swiftlet\[study\]"):
        run_study("g1", QUICK, tmp_path, "")
    assert not list(tmp_path.iterdir())


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = command(capsys, "study")
    assert code == 0 and [line.split()[0] for line in out.splitlines()][: len(STUDIES)] == list(STUDIES)
    code, out, err = command(capsys, "study", "g5")
    assert (code, out) == (2, "") and "unknown study 'g5'" in err
    plant(monkeypatch, traffic)
    code, out, _ = command(capsys, "study", "g1", "--quick", "--out", tmp_path, "--runtime", "onnxruntime", "--json")
    found = json.loads(out)
    assert code == 0 and found["verdict"] == "holds" and Path(found["files"]["html"]).exists()
    assert found["command"].startswith("swiftlet study g1 --quick") and found["machine"] and found["date"]
    code, out, _ = command(capsys, "study", "g1", "--quick", "--out", tmp_path, "--runtime", "onnxruntime")
    assert (
        code == 0
        and "verdict   holds (quick: says nothing): On onnxruntime" in out
        and out.splitlines()[-1].endswith("g1.html")
    )
    assert "128,128" in out and "…" not in out, "no column is cut"


def test_page_in_a_browser(planted: Callable[..., Finding], open_html: Open) -> None:
    finding = replace(planted("g1", noise=0.1), machine="<b>a machine</b>", command="swiftlet study g1")
    picture = png(finding)
    for width in (1280, 360):
        tab = open_html(page.page(finding, picture), width=width)
        assert tab.page.locator("h1").inner_text() == finding.title
        assert tab.page.evaluate("document.querySelector('img').naturalWidth") >= 1300
        assert tab.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert tab.page.locator("table").count() == 2 and tab.page.locator("tbody tr").count() == 16 + 4
        assert "<b>a machine</b>" in tab.page.locator("footer").inner_text()
