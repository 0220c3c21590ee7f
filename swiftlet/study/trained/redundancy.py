"""Redundant feature maps (GhostNet, figure 1 and section 3.1): how many are nearly a filter of another one?

ResNet-20 is trained, and every map that a convolution gives, behind BatchNorm and ReLU, is explained by each other map
of its layer. Controls: the same weights in random places, and sources that belong to another picture.
"""

from copy import deepcopy
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from swiftlet.compress.batchnorm import recalibrate
from swiftlet.study.chart import COLOURS
from swiftlet.study.finding import Cell, Finding, Table, half_interval, judge
from swiftlet.study.trained.map_pairs import draw_pairs, pair_tables, shown_pairs
from swiftlet.study.trained.maps import best_r2, from_all, half_from_half, relations
from swiftlet.study.trial import Arm, Figures, Lesson
from swiftlet.study.trials import Lab, Trials, gain
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, ARM = 32, "ResNet-20"
PICTURES = 64  # for the fit, and as many others
KERNELS = (1, 3, 5, 7)
NEARLY, MANY = 0.9, 50.0  # R2; per cent of the maps: as many as a Ghost module of s=2 makes of others
TRAINED, DEALT = "trained", "weights dealt anew"
SHOWN = "stages.1.1.body.0"  # the layer whose pairs are drawn; its maps are 16 x 16

PUBLISHED = Table(
    title="GhostNet, figure 1",
    columns=("what the paper says",),
    rows=(("three pairs of similar maps in the first residual group of ResNet-50 are marked by eye",),),
    source="its errors at d = 1, 3, 5, 7 are not available here",
)


def run(lab: Lab) -> Finding:
    """The verdict is about the share of maps that a 3x3 filter of another map explains."""
    build = partial(create_model, "resnet20", width=0.25 if lab.quick else 1.0)
    trials = lab.trials([Arm(ARM, build, measure=measure)], side=SIDE)
    shares, anew = (trials.of(ARM, f"{which} 3") for which in (TRAINED, DEALT))
    mean, half = fmean(shares), half_interval(shares)
    halves, median, together = (
        fmean(trials.of(ARM, f"{TRAINED} {figure}")) for figure in ("halves", "3 median", "all median")
    )
    return Finding(
        study="redundancy",
        title="Feature maps that are nearly filters of others",
        claim="Many feature maps of a trained network are ghosts: cheap linear functions of one other map (GhostNet).",
        verdict=judge(mean - half, mean + half, at_least=MANY),
        sentence=f"On {trials.data}, {mean:.1f} % (95 % {mean - half:.1f} to {mean + half:.1f}) of the maps of {ARM} "
        f"are a 3x3 filter of another map of their layer with R2 of {NEARLY} or more, {gain(anew, shares)} points more "
        f"than with its weights dealt anew ({fmean(anew):.1f} %); of half of the maps, made of the other half, "
        f"{halves:.1f} %. The median map has R2 {median:.2f} from one other, {together:.2f} from all others together.",
        measured=(_summary(trials), _layers(trials), *pair_tables(trials.results[ARM, 0], SHOWN)),
        published=(PUBLISHED,),
        notes=(
            f'"Holds" means that the whole interval lies above {MANY:.0f} %. The paper says "many", and shows three '
            f"pairs; a Ghost module of s=2 makes half of its maps of the other half, one of one.",
            f"Filters are fitted on {PICTURES} validation photos, and R2 is that on {PICTURES} others. The best other "
            "map is chosen on the former. Maps that do not vary are left out.",
            "Weights dealt anew: in each layer, the trained weights in random places, BatchNorm's statistics estimated "
            "again. What such a network shows comes from the smoothness of photos, not from training.",
            f"{ARM} has 16 to 64 maps in a layer, the paper's example 256. {trials.steps:,} steps; mean accuracy "
            f"{fmean(trials.of(ARM)):.1f} %.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Median R2 by layer and d; beside it three maps with their sources."""
    _, layers, pairs, greys = finding.measured
    figure.set_size_inches(12, 5.5)
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2), squeeze=False)[0]
    axes = left.subplots()
    places = range(len(layers.rows))
    for d, colour in zip(KERNELS, COLOURS, strict=False):
        axes.plot(places, layers.column(f"R2, d={d}"), color=colour, marker="o", markersize=4, label=f"trained, d={d}")
    axes.plot(places, layers.column(f"R2, {DEALT}, d=3"), "--", color="black", label=f"{DEALT}, d=3")
    axes.axhline(NEARLY, color="#888888", linewidth=1, zorder=0)
    axes.set_xticks(list(places), layers.column("layer"), rotation=90, fontsize="x-small")
    axes.set(ylabel="R2 of the median map from the best other one", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    draw_pairs(pairs, greys, right)


def measure(model: nn.Module, lesson: Lesson) -> Figures:
    """Shares of maps in per cent, and the greys of some pairs; `model` is in evaluation."""
    pixels = lesson.pictures("val").pixels
    chosen = np.random.default_rng(0).permutation(len(pixels))[: 2 * PICTURES]
    images = torch.from_numpy(lesson.contract.normalise(pixels[chosen])).contiguous()
    fit, others = images.chunk(2)
    maps, unseen = layer_maps(model, fit), layer_maps(model, others)
    astray = [best_r2(relations(maps[name], unseen[name], (3,), astray=True)[3]) for name in maps]
    found = shares(TRAINED, maps, unseen) | {"astray": _share(torch.cat(astray))}
    found |= shown_pairs(maps[SHOWN], unseen[SHOWN])
    dealt = dealt_anew(model, fit)
    return found | shares(DEALT, layer_maps(dealt, fit), layer_maps(dealt, others))


def layer_maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Path of every convolution with BatchNorm -> what comes out of it, behind its activation if it has one."""
    found: dict[str, Tensor] = {}
    hooks = []
    for name, module in model.named_modules():
        if [type(part) for part in module.children()][:2] == [nn.Conv2d, nn.BatchNorm2d]:
            hooks.append(module.register_forward_hook(lambda _module, _inputs, y, name=name: found.update({name: y})))
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return found


def dealt_anew(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy in which the weights of each convolution have changed places at random."""
    new, generator = deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in new.modules():
            if isinstance(layer, nn.Conv2d):
                order = torch.randperm(layer.weight.numel(), generator=generator)
                layer.weight.copy_(layer.weight.flatten()[order].view_as(layer.weight))
    recalibrate(new, [images])
    return new


def shares(which: str, fit: dict[str, Tensor], others: dict[str, Tensor]) -> Figures:
    """Of the maps of each layer, on the pictures of the fit and on others: who is explained, layer by layer and all."""
    pooled: dict[str, list[Tensor]] = {f"{which} {what}": [] for what in (*KERNELS, "halves", "all")}
    found: Figures = {}
    for name in fit:
        related = relations(fit[name], others[name], KERNELS)
        pooled[f"{which} halves"].append(half_from_half(related[3]))
        pooled[f"{which} all"].append(from_all(fit[name], others[name]))
        for d, relation in related.items():
            pooled[f"{which} {d}"].append(best_r2(relation))
            found[f"{which} layer {name} {d}"] = _median(best_r2(relation))
        found[f"{which} share of {name}"] = _share(best_r2(related[3]))
    for figure, parts in pooled.items():
        r2 = torch.cat(parts)
        found |= {figure: _share(r2), f"{figure} median": _median(r2), f"{figure} maps": len(r2)}
    return found


def _share(r2: Tensor) -> float:
    """Per cent that are nearly explained; 0 of none."""
    return 100 * float((r2 >= NEARLY).sum()) / max(1, len(r2))


def _median(r2: Tensor) -> float:
    """0 of none."""
    return float(r2.median()) if len(r2) else 0.0


def _summary(trials: Trials) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for which in (TRAINED, DEALT):
        kinds = [(str(d), "", d) for d in KERNELS]
        kinds += [("halves", ", half of the other half", 3), ("all", ", of all others together", 1)]
        for kind, what, d in kinds:
            figure = f"{which} {kind}"
            found = trials.of(ARM, figure)
            median, maps = (fmean(trials.of(ARM, f"{figure} {of}")) for of in ("median", "maps"))
            mean, half = round(fmean(found), 1), round(half_interval(found), 1)
            rows.append((which + what, d, mean, half, round(median, 3), round(maps)))
    astray = trials.of(ARM, "astray")
    rows.append(
        (f"{TRAINED}, of another picture's", 3, round(fmean(astray), 1), round(half_interval(astray), 1), None, None)
    )
    return Table(
        title="All layers",
        columns=("maps", "d", "nearly explained %", "+-", "median R2", "number"),
        rows=tuple(rows),
        source=f"{trials.data}, {len(astray)} networks; +-: half of the 95 % interval by Student's t",
    )


def _layers(trials: Trials) -> Table:
    start = f"{TRAINED} share of "
    names = [figure.removeprefix(start) for figure in trials.results[ARM, 0] if figure.startswith(start)]
    rows: list[tuple[Cell, ...]] = []
    for name in sorted(names, key=lambda name: (name != "stem", name)):
        figures = [*(f"{TRAINED} layer {name} {d}" for d in KERNELS), f"{DEALT} layer {name} 3"]
        share, *medians = (fmean(trials.of(ARM, figure)) for figure in (f"{start}{name}", *figures))
        rows.append((name, round(share, 1), *(round(median, 3) for median in medians)))
    return Table(
        title="By layer",
        columns=("layer", "nearly explained, d=3 %", *(f"R2, d={d}" for d in KERNELS), f"R2, {DEALT}, d=3"),
        rows=tuple(rows),
        source="R2 of the median map from the best other one; body.1 is the layer before the sum",
    )
