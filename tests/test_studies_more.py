"""Staircase, multipliers, ReLU, the zoo's scatter, accelerators: their arithmetic on planted data, their figures."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from swiftlet.catalogue import described
from swiftlet.cost.count import count_model
from swiftlet.cost.systolic import PASSES, Conv, SystolicArray, milliseconds, simulate
from swiftlet.errors import BadInput
from swiftlet.study import get_study
from swiftlet.study.bench import Bench, Case, Timing
from swiftlet.study.chunks import race_in_chunks
from swiftlet.study.finding import Table
from swiftlet.study.timed import accelerator, macs_vs_ms, multipliers, relu_collapse, staircase
from swiftlet.study.timed.chip_blocks import CHANGES, blocks, fused_against_inverted
from swiftlet.study.timed.chip_layers import chip_layers
from swiftlet.study.timed.labels import label_points
from swiftlet.study.timed.multipliers import Exponents
from swiftlet.study.timed.ranks import predictors, spearman, spread
from swiftlet.study.timed.steps import find_steps, multiples
from swiftlet.zoo import card, create_model

COUNTS = [*range(32, 81), *range(96, 145)]


def planted(shape: str, size: int, noise: float, seed: int = 0, height: float = 1.25) -> list[float]:
    """Times that grow with the square of the count; on stairs or a comb of that step; noise: standard deviation."""
    generator = np.random.default_rng(seed)
    times = []
    for count in COUNTS:
        paid = -(-count // size) * size if shape == "stairs" else count
        extra = height if shape == "comb" and count % size else 1.0
        times.append(1e-4 * paid**1.8 * extra * float(np.exp(noise * generator.standard_normal())))
    return times


@pytest.mark.parametrize("shape", ["stairs", "comb"])
@pytest.mark.parametrize("size", [8, 16, 32])
def test_a_planted_step_is_found_in_noise(shape, size):
    for seed in range(5):
        found = find_steps(COUNTS, planted(shape, size, 0.04, seed))
        assert (found.size, found.shape) == (size, shape) and found.p < 0.01
        assert 0.02 < found.penalty[1] < found.penalty[0] < found.penalty[2]


def test_disturbed_times_do_not_decide():
    times, errors = planted("comb", 16, 0.01, height=1.1), [0.01] * len(COUNTS)
    for place in range(3, len(times), 7):  # some of them at multiples
        times[place], errors[place] = 3 * times[place], 0.5
    assert find_steps(COUNTS, times).size is None
    found = find_steps(COUNTS, times, errors)
    assert found.size == 16 and found.penalty[0] == pytest.approx(0.1, abs=0.02)


def test_no_step_is_found_in_a_smooth_curve():
    wrong = sum(find_steps(COUNTS, planted("none", 1, 0.04, seed)).size is not None for seed in range(60))
    assert wrong <= 2  # at 1 %, and only steps worth 2 % count


def test_a_step_too_small_to_matter_is_none():
    found = find_steps(COUNTS, planted("comb", 16, 0.0005, height=1.01))
    assert found.p < 1e-6 and found.size is None


def test_the_share_of_time_at_multiples_is_recovered():
    found = multiples(COUNTS, planted("comb", 16, 0.02, height=1.25))
    assert found[16][1] < 1 / 1.25 < found[16][2] and found[16][2] - found[16][1] < 0.05
    assert all(found[size][0] == pytest.approx(1, abs=0.03) for size in (4, 8))


def test_the_models_staircase_has_the_arrays_step():
    for kind in ("1x1", "3x3"):
        assert find_steps(COUNTS, staircase._modelled(kind, COUNTS)).size == 64


# --- chunks -----------------------------------------------------------------------------------------------------------


class Drifting(Bench):
    """A bench whose machine is twice as slow in every second race."""

    def times(self, cases, *, train=False, programs=None, what="racing"):
        SLOW.append(2.0 if len(SLOW) % 2 else 1.0)
        rounds = np.random.default_rng(len(SLOW)).uniform(0.98, 1.02, 15) * SLOW[-1]
        return {
            Timing(case.label, name): _Measured(tuple(rounds * float(case.label)), float(case.label) * SLOW[-1])
            for case in cases
            for name in self.runtimes
        }


class _Measured:
    def __init__(self, rounds_ms, p50_ms):
        self.rounds_ms, self.p50_ms = rounds_ms, p50_ms


SLOW: list[float] = []


def test_chunks_are_linked_by_their_reference():
    SLOW.clear()
    cases = [lambda i=i: Case(str(i), None, (1, 1, 1)) for i in range(1, 21)]
    found = race_in_chunks(Drifting(runtimes=("null",)), cases, Case("5", None, (1, 1, 1)), size=6)
    assert len(SLOW) == 4 and len(found) == 20
    ratios = [found[Timing(str(i), "null")].against for i in range(1, 21)]
    assert ratios == pytest.approx([i / 5 for i in range(1, 21)])
    times = [found[Timing(str(i), "null")].ms for i in range(1, 21)]
    assert times == pytest.approx([times[0] * i for i in range(1, 21)])  # whichever race a case was in


# --- multipliers ------------------------------------------------------------------------------------------------------


def test_planted_exponents_are_recovered():
    grid = [(alpha, side) for alpha in multipliers.ALPHAS for side in multipliers.SIDES]
    noise = np.random.default_rng(0).normal(0, 0.02, len(grid))
    fit = multipliers.exponents(
        grid, [12 * a**1.7 * (s / 224) ** 1.9 * np.exp(e) for (a, s), e in zip(grid, noise, strict=True)]
    )
    assert fit.alpha[0] == pytest.approx(1.7, abs=0.04) and fit.rho[0] == pytest.approx(1.9, abs=0.08)
    assert 0.02 < fit.alpha[2] - fit.alpha[1] < 0.1 and 0.01 < fit.spread < 0.03


def test_our_macs_are_the_papers():
    for alpha, side, millions, *_ in multipliers.PUBLISHED.rows:
        with torch.device("meta"):
            module = create_model("mobilenet_v1", width=alpha)
        macs = sum(layer.macs for layer in chip_layers(module, (3, side, side)) if isinstance(layer, Conv))
        assert round(macs / 1e6) == pytest.approx(millions, abs=1)


@pytest.mark.parametrize(
    ("alpha", "rho", "verdict"),
    [((2.0, 1.95, 2.05), (2.0, 1.92, 2.1), "holds"), ((1.2, 1.1, 1.3), (2.0, 1.9, 2.1), "fails")],
)
def test_the_verdict_on_exponents(alpha, rho, verdict):
    macs = Exponents((1.9, 1.9, 1.9), (2.0, 2.0, 2.0), 0.0)
    assert multipliers.answer("x", Exponents(alpha, rho, 0.0), macs)[0] == verdict
    unclear = Exponents((1.9, 1.7, 2.1), (2.0, 1.95, 2.05), 0.0)
    assert multipliers.answer("x", unclear, macs)[0] == "cannot tell"


# --- ReLU -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collapse():
    return relu_collapse.run(Bench(quick=True))


def test_relu_loses_less_in_more_dimensions_and_linear_loses_nothing(collapse):
    losses = collapse.measured[0]
    for activation in ("ReLU", "ReLU6"):
        part = losses.where(activation=activation)
        for column in ("lost", "error of best linear map", "error by T's inverse"):
            values = part.column(column)
            assert all(a >= b - 0.01 for a, b in pairwise(values)), column
    linear = losses.where(activation="linear")
    assert max(linear.column("lost")) == 0 and max(linear.column("error by T's inverse")) < 1e-9
    assert collapse.verdict == "holds"


def test_the_share_of_lost_points_is_the_expected_one(collapse):
    relu = collapse.measured[0].where(activation="ReLU")
    for lost, expected in zip(relu.column("lost"), relu.column("lost, expected of ReLU"), strict=True):
        assert lost == pytest.approx(expected, abs=0.06)


def test_a_point_with_one_active_unit_is_lost():
    points = np.array([[1.0, 2.0], [1.0, -2.0], [-1.0, -2.0]])  # two units, the coordinates: 2, 1 and 0 are active
    zero, lost, *_ = relu_collapse.loss(points, np.eye(2), "ReLU")
    assert (zero, lost) == (1 / 3, 2 / 3)
    assert relu_collapse.loss(points * 4, np.eye(2), "ReLU6")[1] == 1  # 8 is clipped as well


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_rank_correlation_is_scipys_and_its_interval_contains_it():
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    a = generator.lognormal(0, 1, 60)
    b = a * generator.lognormal(0, 0.5, 60)
    value, low, high = spearman(a, b)
    assert value == pytest.approx(spearmanr(a, b).statistic) and low < value < high
    assert spearman(a, a) == (1.0, 1.0, 1.0)


def test_the_column_that_makes_the_target_is_the_better_predictor():
    generator = np.random.default_rng(1)
    cause = generator.lognormal(0, 1, 80)
    shadow, target = cause * generator.lognormal(0, 0.6, 80), cause * generator.lognormal(0, 0.2, 80)
    found = predictors(cause, shadow, target)
    assert found.difference[1] > 0 and found.first_given_second[1] > 0.5
    assert found.second_given_first[1] < 0 < found.second_given_first[2]


def test_the_spread_is_that_of_the_noise():
    generator = np.random.default_rng(2)
    x = generator.lognormal(0, 2, 400)
    value, low, high = spread(x, 3 * x**0.8 * np.exp(generator.normal(0, 0.3, 400)))
    assert low < np.exp(2 * 1.2816 * 0.3) < high and value == pytest.approx(2.158, rel=0.15)


def test_the_phones_table_is_of_networks_that_we_count_alike():
    variants = {
        (name, described(variant.arguments), variant.side or card(name).input[1]): variant
        for name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "mnasnet_a1")
        for variant in card(name).variants
    }
    theirs = [row for row in macs_vs_ms.PIXEL.rows if row[:3] in variants]
    assert len(theirs) == 30
    for row in theirs[::3]:
        name, _, side = row[:3]
        with torch.device("meta"):
            model = create_model(name, **variants[row[:3]].arguments)
        assert count_model(model, (3, side, side)).cost.macs / 1e6 == pytest.approx(row[3], rel=0.035, abs=1.01)


def test_extremes_leave_out_the_smallest():
    rows = tuple(("x", name, "", 1, macs, 1.0, 1.0, each) for name, macs, each in (
        ("tiny", 10**5, 0.1), ("fast", 10**8, 3.0), ("slow", 10**8, 90.0), ("middle", 10**9, 20.0),
    ))  # fmt: skip
    columns = ("runtime", "network", "arguments", "side", "MACs", "MB moved", "ms", "ms per 10^9 MACs")
    best, worst = macs_vs_ms.extremes(Table(title="", columns=columns, rows=rows, source=""))
    assert best.startswith("fast") and worst.startswith("slow")


# --- accelerators -----------------------------------------------------------------------------------------------------


def test_a_network_becomes_layers_with_all_its_macs():
    for name in ("mobilenet_v3_small", "shufflenet_v2", "ghostnet"):
        case = accelerator.network_case(name)
        layers = chip_layers(case.module, case.input)
        from swiftlet.cost.count import count_model

        assert (
            sum(layer.macs for layer in layers if isinstance(layer, Conv))
            == count_model(case.module, case.input).cost.macs
        )
        assert {layer.op for layer in layers if not isinstance(layer, Conv)} <= PASSES.keys()


def test_an_operation_without_a_rule_is_named():
    with pytest.raises(BadInput, match="no rule for gelu"):
        chip_layers(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU()), (3, 4, 4))


def test_the_model_orders_networks_as_the_chip_does():
    """Coral's published times. The model has no overhead, so small networks come out too fast; the order is theirs."""
    ours = []
    for name, side, _ in accelerator.CORAL.rows:
        layers = accelerator._layers(str(name), int(side))
        ours.append(milliseconds(simulate(layers, SystolicArray()), SystolicArray()))
    theirs, names = accelerator.CORAL.column("ms"), accelerator.CORAL.column("network")
    assert theirs == sorted(theirs) and ours == sorted(ours)
    for name, mine, their in zip(names, ours, theirs, strict=True):
        assert mine < their, name
        if their > 40:  # bound by the wire, where an overhead of a millisecond does not count
            assert mine > 0.75 * their, name


def test_the_model_has_mobiledets_claim():
    """Up to 3 times faster with several times the MACs; not at every shape."""
    table = fused_against_inverted(SystolicArray())
    gains = table.column("x time of the inverted")
    assert 2.5 < max(gains) < 3.5 and min(gains) < 1
    assert min(table.column("x MACs of the fused")) > 3.5


def test_each_block_differs_in_its_one_decision():
    chip = SystolicArray()
    times = {
        name: milliseconds(simulate(chip_layers(module, input), chip), chip)
        for name, (module, input) in blocks().items()
    }
    for changed, base in CHANGES.values():
        assert times[changed] > times[base]


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.4, 0.6, "holds"), (1.3, 1.5, "fails"), (1.0, 1.5, "cannot tell")]
)
def test_the_verdict_on_decisions(low, high, verdict):
    rows = (("a", accelerator.ARRAY, 1.2, None, None), ("a", "cpu", (low + high) / 2, low, high))
    changes = Table(title="", columns=("change", "on", "x time", "low", "high"), rows=rows, source="")
    assert accelerator.answer(changes, "cpu")[0] == verdict


# --- figures and whole runs -------------------------------------------------------------------------------------------


def test_labels_overlap_neither_each_other_nor_points():
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = [(i / 10, (i % 3) / 10 + 1) for i in range(14)]
    axes.scatter(*zip(*points, strict=True))
    label_points(figure, axes, [(x, y, f"network {i}") for i, (x, y) in enumerate(points)], points)
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) >= 10
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("name", ["staircase", "multipliers", "macs-vs-ms", "accelerator"])
def test_a_finding_holds_what_its_figure_needs(name, monkeypatch):
    """Run with a bench that makes up its times: no program runs, but every table, verdict and figure is made."""
    pytest.importorskip("matplotlib")
    from swiftlet.study.page import png

    module = get_study(name)
    monkeypatch.setattr(Bench, "times", made_up)
    if name in ("staircase", "accelerator"):
        monkeypatch.setattr(staircase, "in_integers", lambda bench, case: bench.runtimes[:1])
        monkeypatch.setattr(accelerator, "in_integers", lambda bench, case: bench.runtimes[:1])
        monkeypatch.setattr(accelerator, "ceilings", lambda threads, again=False: type("C", (), {"float32": 100.0}))
    finding = module.run(Bench(quick=True))
    assert finding.study == name and finding.verdict in ("holds", "fails", "cannot tell")
    assert "95 %" in finding.sentence
    assert png(finding).startswith(b"\x89PNG")
    for table in (*finding.measured, *finding.published):
        assert all(len(row) == len(table.columns) for row in table.rows) and table.rows
    finding.to_json()


def made_up(self, cases, *, train=False, programs=None, what="racing"):
    """Times that are 0.1 ms and 0.05 ms for each million elements of the weights, with a little noise."""
    found = {}
    for i, case in enumerate(cases):
        weights = sum(p.numel() for p in case.module.parameters())
        for name in self.runtimes:
            rounds = (0.1 + weights / 2e7) * np.random.default_rng(i).uniform(0.98, 1.02, 15)
            found[Timing(case.label, name)] = _Measured(tuple(rounds), float(np.median(rounds)))
    return found


def test_relu_collapse_draws(collapse):
    pytest.importorskip("matplotlib")
    from swiftlet.study.page import png

    assert png(replace(collapse, machine="x")).startswith(b"\x89PNG")
