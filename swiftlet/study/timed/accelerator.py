"""What an accelerator would make of the zoo, by model (swiftlet/cost/systolic.py), beside this CPU as measured.

Two chips: a systolic array of 64 x 64 int8 multipliers as in an Edge TPU, and a vector DSP of 128 lanes. Networks
first, then what single decisions cost on each: depthwise instead of dense, one channel too many, 5x5, h-swish, SE.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from swiftlet.cost.systolic import (
    Chip,
    Conv,
    Layer,
    Step,
    SystolicArray,
    VectorDsp,
    milliseconds,
    simulate,
    utilisation,
)  # fmt: skip
from swiftlet.runtime.ceilings import ceilings
from swiftlet.study.bench import Bench, Case, Precision, Timing, counted, ratio
from swiftlet.study.finding import Finding, Table, Verdict
from swiftlet.study.timed.chip_blocks import CHANGES, block_case, blocks, fused_against_inverted
from swiftlet.study.timed.chip_chart import ARRAY, DSP
from swiftlet.study.timed.chip_chart import draw as draw
from swiftlet.study.timed.chip_layers import chip_layers
from swiftlet.study.timed.staircase import KINDS, in_integers, make_case
from swiftlet.zoo import card, create_model

NETWORKS = (
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "mobilenet_v4_conv_small", "mnasnet_a1",
    "efficientnet_lite0", "mobiledet_cpu", "mobiledet_edgetpu", "mobiledet_dsp", "mobiledet_gpu", "shufflenet_v2",
    "ghostnet", "lcnet", "squeezenet1_0", "googlenet", "inception_v3", "resnet18", "resnet50", "xception", "vgg16",
)  # fmt: skip
QUICK = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobiledet_edgetpu")
ARGUMENTS: dict[str, dict[str, Any]] = {"googlenet": {"variant": "torchvision"}}  # with BatchNorm, not LRN
CHAIN_CHANNELS = 96  # of the chains of one kind of layer that are measured on the CPU

CORAL = Table(
    title="Edge TPU, as published by Coral",
    columns=("network", "side", "ms"),
    rows=(
        ("squeezenet1_0", 224, 2.1), ("mobilenet_v1", 224, 2.4), ("mobilenet_v2", 224, 2.6), ("googlenet", 224, 3.4),
        ("inception_v3", 299, 42.8), ("resnet50", 299, 49.0), ("vgg16", 224, 296.0),
    ),
    source="coral.ai/docs/edgetpu/benchmarks, desktop CPU with the USB accelerator; Inception V3: coral.ai/models. The "
    "page does not say which SqueezeNet; Inception V1 is compared with our GoogLeNet with BatchNorm",
)  # fmt: skip
CLAIMED = Table(
    title="MobileDets, section 1",
    columns=("what", "value"),
    rows=(
        ("a regular convolution uses the Edge TPU more efficiently than depthwise ones, up to, x", 3),
        ("with more FLOPs, x", 7),
    ),
    source="arXiv:2004.14525: for certain shapes and kernels",
)


def run(bench: Bench) -> Finding:
    """Models for all networks, measurements for all blocks; the verdict compares the array with the first runtime."""
    names = QUICK if bench.quick else NETWORKS
    array, dsp = SystolicArray(), VectorDsp()
    chips: dict[str, Chip] = {ARRAY: array, DSP: dsp}
    steps = {(name, chip): simulate(_layers(name), chips[chip]) for name in names for chip in chips}
    cpu = _cpu_utilisation(bench, map(network_case, names))
    networks = []
    for name in names:
        on_array, on_dsp = steps[name, ARRAY], steps[name, DSP]
        single = SystolicArray(double_buffered=False)
        waits = sum(step.cycles for step in on_array if step.bound == "memory") / sum(step.cycles for step in on_array)
        networks.append(
            (
                name, _macs(on_array), 100 * utilisation(on_array, array),
                100 * utilisation(simulate(_layers(name), single), single), milliseconds(on_array, array),
                100 * waits, 100 * utilisation(on_dsp, dsp), cpu.get(name),
            )
        )  # fmt: skip
    changes = _changes(bench)
    verdict, sentence = answer(changes, f"{bench.runtimes[0]} float32")
    shown = {row[0]: row for row in networks}
    examples = "; ".join(
        f"{name} {shown[name][2]:.0f} % of the array, {shown[name][7]:.0f} % of this CPU"
        for name in ("mobilenet_v1", "mobilenet_v2")
    )
    return Finding(
        study="accelerator",
        title="The same networks on an accelerator, by model, and on this CPU",
        claim="Depthwise layers, odd channel counts, 5x5, h-swish and SE each cost more on accelerators than on CPUs.",
        verdict=verdict,
        sentence=f"{sentence} Utilisation: {examples}.",
        measured=(
            Table(
                title="Utilisation of networks",
                columns=(
                    "network", "MACs", "array, %", "array without double buffer, %", "array, ms",
                    "of it waiting for memory, %", "DSP, %", "CPU float32, %",
                ),
                rows=tuple(networks),
                source=f"array and DSP by model, int8; CPU: {bench.runtimes[0]}, measured, {bench.place()}, of this "
                "machine's measured float32 ceiling",
            ),
            _kinds(steps, chips, names, _cpu_utilisation(bench, map(_chain, KINDS))),
            changes,
            fused_against_inverted(array),
            _against_coral(names),
        ),
        published=(CORAL, CLAIMED),
        notes=(
            f"The array is {array}; the DSP is {dsp}. Makers publish little, so both are assumptions; "
            "formulas and sources are in swiftlet/cost/systolic.py, and the array's cycles equal SCALE-Sim 3.0.0's.",
            "The model knows no overhead per layer or call, and lays depthwise groups on the array's diagonal. A real "
            "chip may do better on depthwise layers and worse on everything else.",
            "ReLU and ReLU6 are free on the array; h-swish is three passes of a vector unit of 64 lanes. A chip with a "
            "look-up table does it in one.",
        ),
    )  # fmt: skip


def network_case(name: str) -> Case:
    return Case(name, create_model(name, **ARGUMENTS.get(name, {})), card(name).input)


def _layers(name: str, side: int | None = None) -> list[Layer]:
    with torch.device("meta"):  # shapes are enough
        case = network_case(name)
    return chip_layers(case.module, case.input if side is None else (case.input[0], side, side))


def _macs(steps: Sequence[Step]) -> int:
    return sum(step.layer.macs for step in steps if isinstance(step.layer, Conv))


def _chain(kind: str) -> Case:
    return make_case(kind, CHAIN_CHANNELS, "float32")._replace(label=kind)


def _cpu_utilisation(bench: Bench, cases: Iterable[Case]) -> dict[str, float]:
    """Percent of the float32 ceiling, by label, on the first runtime. One case at a time: no two are compared."""
    ceiling = ceilings(bench.threads).float32
    first = replace(bench, runtimes=bench.runtimes[:1])
    gflops = {}
    for case in cases:
        times = first.times([case], what=case.label)
        work = 2e-6 * (counted(case).cost.macs or 0) * bench.batch
        gflops[case.label] = work / times[Timing(case.label, bench.runtimes[0])].p50_ms
    if max(gflops.values(), default=0.0) > ceiling:  # it was measured while the machine was slow
        ceiling = ceilings(bench.threads, again=True).float32
    return {label: 100 * rate / ceiling for label, rate in gflops.items()}


def _kinds(
    steps: dict[tuple[str, str], tuple[Step, ...]],
    chips: dict[str, Chip],
    names: Sequence[str],
    cpu: dict[str, float],
) -> Table:
    """All networks together, per kind of layer, without the waiting for memory, which is no fault of the kind."""
    macs: Counter[str] = Counter()
    busy: dict[str, Counter[str]] = {chip: Counter() for chip in chips}
    for (_, chip), found in steps.items():
        for step in found:
            if isinstance(step.layer, Conv):
                busy[chip][step.layer.kind] += step.busy
                macs[step.layer.kind] += step.layer.macs if chip == ARRAY else 0
    rows = []
    for kind, cycles in busy[ARRAY].most_common():
        used = [100 * macs[kind] / busy[chip][kind] / chips[chip].macs_per_cycle for chip in chips]
        shares = (100 * macs[kind] / macs.total(), 100 * cycles / busy[ARRAY].total())
        rows.append((kind, *shares, *used, cpu.get(kind)))
    return Table(
        title="Utilisation of kinds of layers",
        columns=("kind", "of all MACs, %", "of the array's cycles, %", "array, %", "DSP, %", "CPU float32, %"),
        rows=tuple(rows),
        source=f"the {len(names)} networks above together, by model, without waiting for memory; on one position: "
        f"linear layers and those of SE; CPU: measured on chains of {CHAIN_CHANNELS} channels",
    )


def _changes(bench: Bench) -> Table:
    """Time of each changed block against the block that it changes, on every device."""
    rows: list[tuple[Any, ...]] = []
    chips: dict[str, Chip] = {ARRAY: SystolicArray(), DSP: VectorDsp()}
    modelled = {
        (name, chip): milliseconds(simulate(chip_layers(module, input), unit), unit)
        for name, (module, input) in blocks().items()
        for chip, unit in chips.items()
    }
    macs = {name: counted(block_case(name, "float32")).cost.macs or 0 for name in blocks()}
    precisions: tuple[Precision, ...] = ("float32", "int8")
    measured = [
        (f"{runtime} {precision}", times) for precision in precisions for runtime, times in _timed(bench, precision)
    ]
    for change, (changed, base) in CHANGES.items():
        rows.append((change, "MACs", macs[changed] / macs[base], None, None))
        rows += [(change, chip, modelled[changed, chip] / modelled[base, chip], None, None) for chip in chips]
        rows += [(change, device, *times[change]) for device, times in measured]
    return Table(
        title="What single decisions cost",
        columns=("change", "on", "x time", "low", "high"),
        rows=tuple(rows),
        source="an inverted bottleneck, 64 channels, expansion 6, at 28 x 28, twice; time against the block without "
        f"the change; measured: {bench.place()}, 95 % intervals",
    )


def _timed(bench: Bench, precision: Precision) -> list[tuple[str, dict[str, tuple[float, float, float]]]]:
    cases = [block_case(name, precision) for name in blocks()]
    runtimes = bench.runtimes if precision == "float32" else in_integers(bench, cases[0])
    if not runtimes:
        return []
    times = replace(bench, runtimes=runtimes).times(cases, what=f"blocks in {precision}")
    return [
        (name, {change: ratio(times, Timing(a, name), Timing(b, name)) for change, (a, b) in CHANGES.items()})
        for name in runtimes
    ]


def _against_coral(names: Sequence[str]) -> Table:
    chip = SystolicArray()
    rows = []
    for name, side, theirs in CORAL.rows:
        if name in names:
            ours = milliseconds(simulate(_layers(str(name), int(side or 0)), chip), chip)
            rows.append((name, side, ours, theirs))
    return Table(
        title="The model against a chip",
        columns=("network", "side", "ms, model", "ms, Edge TPU (published)"),
        rows=tuple(rows),
        source="the model has no overhead; weights beyond 8 MB come over USB at 0.5 GB/s",
    )


def answer(changes: Table, device: str) -> tuple[Verdict, str]:
    """Whether every change costs more on the array than on the device; the interval is the measurement's."""
    more: list[str] = []
    less: list[str] = []
    unclear: list[str] = []
    texts = {}
    for change in dict.fromkeys(changes.column("change")):
        (on_array,) = changes.where(change=change, on=ARRAY).column("x time")
        there = changes.where(change=change, on=device)
        middle, low, high = (there.column(name)[0] for name in ("x time", "low", "high"))
        (more if on_array > high else less if on_array < low else unclear).append(change)
        texts[change] = f"{change} {on_array:.2f}x against {middle:.2f}x (95 % {low:.2f} to {high:.2f})"
    parts = [
        f"{title}: {', '.join(texts[change] for change in chosen)}"
        for title, chosen in (("Dearer on the array", more), ("cheaper there", less), ("cannot tell", unclear))
        if chosen
    ]
    verdict: Verdict = "fails" if less else "cannot tell" if unclear else "holds"
    return verdict, f"Against {device}. {'; '.join(parts)}."
