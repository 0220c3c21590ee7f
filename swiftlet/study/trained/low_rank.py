"""Low-rank factorization (Denton et al. 2014, Jaderberg et al. 2014, Kim et al. 2016): accuracy against real time.

One plain network is trained, then taken apart in three ways at several budgets of multiply-adds, each network fitted to
pictures, as it comes and after some further steps. The same network whole, with these steps, is the control. Ranks are
those of `compress.factorize`, which shares the budget between the layers by what each loses.
"""

import copy
import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from swiftlet.compress.factorize import factorize
from swiftlet.compress.factors import Rank
from swiftlet.cost.count import count_model
from swiftlet.quantizing import Calibration
from swiftlet.study.bench import Bench, Case, Timing, ratio
from swiftlet.study.chart import COLOURS, MARKERS, Line, legend, spread
from swiftlet.study.finding import Cell, Effect, Finding, Table, Verdict, judge, ratio_text
from swiftlet.study.series import interval
from swiftlet.study.trial import RECIPE, Arm, Figures, Lesson
from swiftlet.study.trials import Gain, Lab, Trials, gain, judge_gain
from swiftlet.train.loop import Training
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WIDTH = 32, 0.25
WHOLE, JUDGED = "whole", "spatial"
METHODS = {
    "svd": "k x k to few channels, then 1 x 1",
    JUDGED: "k x 1 to few channels, then 1 x k",
    "tucker": "1 x 1, k x k between few channels, 1 x 1",
}
SHARES = (0.5, 0.3, 0.2)  # of the multiply-adds
FASTER, MARGIN = 2.5, 0.5  # times as fast; points that are no loss
FITTED = 512  # pictures
STEPS, QUICK_STEPS = 100, 2
FURTHER = replace(RECIPE, name="study, further", lr=0.05)
CAME, TUNED = "as it comes", "after further steps"

PUBLISHED = Table(
    title="What the papers report",
    columns=("paper", "method", "times as fast", "points lost", "of"),
    rows=(
        ("Denton et al. 2014", "low rank", 2.0, "within 1", "convolutions, on CPU and GPU"),
        ("Jaderberg et al. 2014", "spatial", 2.5, "none", "a network for text in scenes"),
        ("Jaderberg et al. 2014", "spatial", 4.5, "less than 1", "a network for text in scenes"),
    ),
    source="abstracts. Figures of Tucker-2 (Kim et al. 2016) are not available here",
)


def run(bench: Bench, lab: Lab) -> Finding:
    """The verdict is about spatial factorization at the first budget that makes the network FASTER times as fast: its
    accuracy after the further steps against the whole network's after them."""
    steps = QUICK_STEPS if lab.quick else STEPS
    network = partial(create_model, "vgg16", small_input=True, width=WIDTH)
    arm = Arm(WHOLE, network, measure=partial(measure, steps))
    trials = lab.trials([arm], side=SIDE)
    classes = int(trials.of(WHOLE, "classes")[0])
    accuracies, times = _accuracies(trials), _times(bench, trials, network(num_classes=classes).eval())
    main = bench.runtimes[0]
    speeds = {share: interval(times, of="x as fast", runtime=main, method=JUDGED, share=share) for share in SHARES}
    verdict, share = judged(speeds, {share: tuned_gain(trials, JUDGED, share) for share in speeds})
    came, further = as_it_came(trials, JUDGED, share), tuned_gain(trials, JUDGED, share)
    return Finding(
        study="low-rank",
        title="Low-rank factorization: accuracy and real time",
        claim=f"Pairs of one-dimensional filters make a network {FASTER:g} times as fast without a loss of accuracy "
        "(Jaderberg et al.).",
        verdict=verdict,
        sentence=f"On {trials.data} and {main}, VGG-16 {WIDTH:g} in k x 1 and 1 x k filters with {100 * share:g} % of "
        f"the multiply-adds is {ratio_text(speeds[share])} as fast, at {came} points as it comes, and at {further} "
        f"after {steps} further steps, which the whole network got as well.",
        effect=Effect("time", "Take 3x3 convolutions apart into k x 1 and 1 x k.", *speeds[share]),
        measured=(accuracies, times),
        published=(PUBLISHED,),
        notes=(
            trials.small,
            f'"Holds" means: at the largest budget that is {FASTER:g} times as fast with its interval, accuracy lies '
            f"above -{MARGIN:g} points with its interval. Where no budget is that fast the verdict is about time, and "
            "the sentence is about the fastest.",
            "Times are those of the ranks of seed 0; other seeds share the same budget a little differently. The "
            "further steps come on top of --minutes.",
            "In narrow networks a layer more costs more than its multiply-adds say; wide layers gain nearly what their "
            "multiply-adds promise (python -m benchmarks factorize).",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Points gained or lost against the times as fast, by multiply-adds and by the clock."""
    accuracies, times = finding.measured
    left, right = figure.subplots(1, 2, sharey=True)
    main = times.column("runtime")[0]
    for place, method in enumerate(METHODS):
        look = {"color": COLOURS[place], "marker": MARKERS[place], "capsize": 2, "linewidth": 1}
        speeds = times.where(runtime=main, method=method).column("x as fast")
        for axes, faster in ((left, [1 / share for share in SHARES]), (right, speeds)):
            for when, filled in ((CAME, False), (TUNED, True)):
                here = accuracies.where(method=method, when=when)
                line = Line(f"{method}, {when}", *(here.column(name) for name in ("points", "low", "high")))
                axes.errorbar(
                    faster,
                    line.middle,
                    yerr=spread(line),
                    linestyle="-" if filled else ":",
                    markerfacecolor=None if filled else "white",
                    label=line.label,
                    **look,
                )
    right.plot([2.5, 4.5], [0, -1], "x", color="black", label="Jaderberg et al., published")
    right.plot([2.0], [-1], "+", color="black", label="Denton et al., published")
    for axes in (left, right):
        axes.axhline(0, color="#888888", linewidth=1, zorder=0)
        axes.grid(alpha=0.3)
    left.set(xlabel="multiply-adds, times fewer", ylabel="points against the whole network")
    right.set_xlabel(f"times as fast on {main}")
    legend(figure, right)


def measure(steps: int, model: nn.Module, lesson: Lesson) -> Figures:
    """The accuracy of each factorized network as it comes and after so many further steps, its multiply-adds and ranks;
    and that of the whole network after the steps."""
    side = lesson.contract.side
    on = Calibration(lesson.sample(FITTED), lesson.contract)
    macs = count_model(model, (3, side, side)).cost.macs or 0
    found = {"classes": float(lesson.classes), f"{WHOLE} {TUNED}": _further(model, lesson, steps)}
    for method in METHODS:
        for share in SHARES:
            small, record = factorize(model, (3, side, side), method=method, macs=int(share * macs), batches=on.images)
            name = name_of(method, share)
            found[name] = lesson.percent(small)
            found[f"{name} {TUNED}"] = _further(small, lesson, steps)
            found[f"{name} MACs"] = float(count_model(small, (3, side, side)).cost.macs or 0)
            ranks = record.arguments["ranks"]
            assert isinstance(ranks, dict)
            for path, rank in ranks.items():
                for place, one in enumerate(rank if isinstance(rank, list) else [rank]):
                    found[f"{name} rank {path} {place}"] = float(one)
    return found


def _accuracies(trials: Trials) -> Table:
    whole = trials.macs[WHOLE]
    of_whole = ((CAME, trials.of(WHOLE)), (TUNED, trials.of(WHOLE, f"{WHOLE} {TUNED}")))
    rows: list[tuple[Cell, ...]] = [
        (WHOLE, 1.0, round(whole / 1e6, 3), when, round(statistics.mean(seen), 2), None, None, None)
        for when, seen in of_whole
    ]
    for method in METHODS:
        for share in SHARES:
            name = name_of(method, share)
            macs = round(statistics.mean(trials.of(WHOLE, f"{name} MACs")) / 1e6, 3)
            for when, figure, gained in (
                (CAME, name, as_it_came(trials, method, share)),
                (TUNED, f"{name} {TUNED}", tuned_gain(trials, method, share)),
            ):
                accuracy = round(statistics.mean(trials.of(WHOLE, figure)), 2)
                rows.append((method, share, macs, when, accuracy, *(round(each, 2) for each in gained)))
    return Table(
        title="Accuracy",
        columns=("method", "share", "M MACs", "when", "accuracy %", "points", "low", "high"),
        rows=tuple(rows),
        source=f"{trials.data}: {trials.pictures[1]:,} validation photos, {trials.steps:,} steps on "
        f"{trials.pictures[0]:,} others; {'; '.join(f'{name}: {what}' for name, what in METHODS.items())}; share of "
        "the multiply-adds; points against the whole network, which got the further steps too; seed by seed, with "
        "95 % intervals by Student's t",
    )


def _times(bench: Bench, trials: Trials, whole: nn.Module) -> Table:
    """Of networks with the ranks of seed 0; their weights do not matter."""
    shape = (3, SIDE, SIDE)
    cases = [Case(WHOLE, whole, shape)]
    for method in METHODS:
        for share in SHARES:
            name = name_of(method, share)
            ranks = ranks_of(trials.results[WHOLE, 0], name)
            cases.append(Case(name, factorize(whole, shape, method=method, ranks=ranks)[0], shape))
    times = bench.times(cases)
    rows: list[tuple[Cell, ...]] = []
    for runtime in bench.runtimes:
        against = Timing(WHOLE, runtime)
        rows.append((runtime, WHOLE, 1.0, times[against].p50_ms, None, None, None))
        for method in METHODS:
            for share in SHARES:
                here = Timing(name_of(method, share), runtime)
                rows.append((runtime, method, share, times[here].p50_ms, *ratio(times, against, here)))
    return Table(
        title="Time",
        columns=("runtime", "method", "share", "ms", "x as fast", "low", "high"),
        rows=tuple(rows),
        source=f"{bench.place()}, BatchNorm folded; x as fast as the whole network, with its 95 % interval",
    )


def name_of(method: str, share: float) -> str:
    return f"{method} {share:g}"


def ranks_of(figures: Mapping[str, float], name: str) -> dict[str, Rank]:
    """What `measure` has told of a factorized network, as factorize takes it."""
    told: dict[str, list[int]] = {}
    for key, value in figures.items():
        if key.startswith(f"{name} rank "):
            path = key.removeprefix(f"{name} rank ").rpartition(" ")[0]
            told.setdefault(path, []).append(int(value))
    return {path: ranks[0] if len(ranks) == 1 else (ranks[0], ranks[1]) for path, ranks in told.items()}


def judged(speeds: Mapping[float, tuple[float, float, float]], gains: Mapping[float, Gain]) -> tuple[Verdict, float]:
    """The verdict, and the share of the multiply-adds that it is about. speeds: times as fast, with intervals."""
    reached = [share for share in sorted(speeds, reverse=True) if speeds[share][1] >= FASTER]
    if reached:
        return judge_gain(gains[reached[0]], at_least=-MARGIN), reached[0]
    fastest = max(speeds, key=lambda share: speeds[share][0])
    return judge(speeds[fastest][1], max(high for _, _, high in speeds.values()), at_least=FASTER), fastest


def as_it_came(trials: Trials, method: str, share: float) -> Gain:
    """Points against the whole network, neither trained any further."""
    return gain(trials.of(WHOLE), trials.of(WHOLE, name_of(method, share)))


def tuned_gain(trials: Trials, method: str, share: float) -> Gain:
    """Points against the whole network, after the further steps of both."""
    return gain(trials.of(WHOLE, f"{WHOLE} {TUNED}"), trials.of(WHOLE, f"{name_of(method, share)} {TUNED}"))


def _further(model: nn.Module, lesson: Lesson, steps: int) -> float:
    trained = copy.deepcopy(model).requires_grad_()
    training = Training(trained, lesson.pictures("train"), lesson.contract, FURTHER, steps=steps, seed=0)
    training.run()
    trained.load_state_dict(training.delivered())
    return lesson.percent(trained)
