"""Channel shuffle (ShuffleNet V1, tables 2 and 3): what it gains, by the number of groups, and what groups gain."""

from functools import partial
from typing import TYPE_CHECKING

from swiftlet.study.chart import COLOURS, Line, dodged, legend
from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trained.claims import comparisons
from swiftlet.study.trial import Arm
from swiftlet.study.trial_chart import draw_seeds
from swiftlet.study.trials import Lab, average, gain, gained, judge_gain
from swiftlet.zoo import create_model
from swiftlet.zoo.shufflenet_v1 import ERRORS, STAGE2

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WIDTH = 24, 0.25
GROUPS = tuple(STAGE2)
ALSO_WITHOUT = (3, 8)  # those of table 3
POOLED = "shuffle over none, 3 and 8 groups"

TABLE_2 = Table(
    title="ShuffleNet V1, table 2",
    columns=("groups", *(f"{width:g}x error %" for width in ERRORS)),
    rows=tuple(zip(GROUPS, *ERRORS.values(), strict=True)),
    source="top-1 error on ImageNet, with shuffle; equal MACs in a column, nearly",
)
TABLE_3 = Table(
    title="ShuffleNet V1, table 3",
    columns=("scale", "groups", "no shuffle error %", "shuffle error %", "points"),
    rows=tuple(
        (f"{width:g}x", groups, without, ERRORS[width][GROUPS.index(groups)], points)
        for width, groups, without, points in (
            (1.0, 3, 34.5, 1.9),
            (1.0, 8, 37.6, 5.2),
            (0.5, 3, 45.7, 2.5),
            (0.5, 8, 48.1, 5.8),
            (0.25, 3, 56.3, 1.3),
            (0.25, 8, 56.5, 3.8),
        )
    ),
    source="top-1 error on ImageNet",
)


def run(lab: Lab) -> Finding:
    """Five numbers of groups with shuffle, two without; the verdict is about both pairs together."""
    arms = [
        Arm(
            _label(groups, shuffle),
            partial(
                create_model, "shufflenet_v1", width=WIDTH, groups=groups, shuffle=shuffle, small_input=True
            ),
        )
        for shuffle, some in ((True, GROUPS), (False, ALSO_WITHOUT))
        for groups in some
    ]  # fmt: skip
    trials = lab.trials(arms, side=SIDE)
    pairs = {groups: gained(trials, _label(groups), over=_label(groups, shuffle=False)) for groups in ALSO_WITHOUT}
    none = [0.0] * len(pairs[3])
    pooled = gain(none, average(*pairs.values()))
    more = gain(pairs[3], pairs[8])
    grouped = gain(trials.of(_label(1)), average(*(trials.of(_label(groups)) for groups in GROUPS[1:])))
    compared = comparisons(
        {
            POOLED: pooled,
            **{_pair(groups): gain(none, pairs[groups]) for groups in ALSO_WITHOUT},
            "that with 8 groups over that with 3": more,
            "2, 3, 4 and 8 groups over 1": grouped,
        }
    )
    return Finding(
        study="shuffle",
        title="Channel shuffle and groups",
        claim="Grouped networks are more accurate with channel shuffle than without (ShuffleNet V1).",
        verdict=judge_gain(pooled),
        sentence=f"On {trials.data}, shuffle gains ShuffleNet V1 {WIDTH:g}x {pooled} points, averaged over 3 and 8 "
        f"groups; with 8 groups it gains {more} points more than with 3. Networks with groups are {grouped} points "
        f"above the one without.",
        effect=Effect("accuracy", "Shuffle the channels between grouped convolutions.", *pooled),
        measured=(trials.table("Groups, with and without shuffle", over=_label(1)), compared),
        published=(TABLE_3, TABLE_2),
        notes=(
            trials.note,
            "Table 1 gives networks of different groups equal MACs at 224 pixels. Here, with a stem of stride 1 and no "
            "pooling, they are as counted. With and without shuffle they are always equal, and so are the weights at "
            "the start.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    """Accuracy over groups, and what shuffle gains, here and as published."""
    table, compared = finding.measured
    left, right = figure.subplots(1, 2)
    for colour, shuffle, some, name in (
        (COLOURS[0], True, GROUPS, "shuffle"),
        (COLOURS[1], False, ALSO_WITHOUT, "no shuffle"),
    ):
        places = [GROUPS.index(groups) for groups in some]
        means = [
            draw_seeds(table, _label(groups, shuffle), place, left, colour)
            for groups, place in zip(some, places, strict=True)
        ]
        left.plot(places, means, "_-", color=colour, markersize=14, label=f"{name}, here")
    left.set_xticks(range(len(GROUPS)), [str(groups) for groups in GROUPS])
    left.set(xlabel="groups", ylabel="accuracy %, each seed and the mean")
    left.grid(axis="y", alpha=0.3)

    gains = [compared.where(claim=_pair(groups)) for groups in ALSO_WITHOUT]
    points, low, high = ([row.column(name)[0] for row in gains] for name in ("here", "low", "high"))
    theirs = [
        Line(f"{scale}, published", TABLE_3.where(scale=scale).column("points"))
        for scale in dict.fromkeys(TABLE_3.column("scale"))
    ]
    dodged(
        right, [f"{groups} groups" for groups in ALSO_WITHOUT], [Line(f"{WIDTH:g}x, here", points, low, high), *theirs]
    )
    right.axhline(0, color="#888888", linewidth=1, zorder=0)
    right.set_ylabel("points that shuffle gains")
    legend(figure, left, right)


def _label(groups: int, shuffle: bool = True) -> str:
    return f"{groups} group{'s' if groups > 1 else ''}{'' if shuffle else ', no shuffle'}"


def _pair(groups: int) -> str:
    return f"shuffle over none, {groups} groups"
