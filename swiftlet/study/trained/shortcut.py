"""Where the shortcut of an inverted residual sits (MobileNet V2, section 6.4, figure 6b).

Between thin ends it passes expansion, depthwise convolution and projection by. Between wide ends it passes depthwise
convolution, projection and the next block's expansion by: as many layers, and it carries more channels. So every
shortcut of the one network has its counterpart in the other, at equal MACs and parameters.
"""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trained.claims import Claim, claims_table, together
from swiftlet.study.trial import Arm
from swiftlet.study.trial_chart import draw_trials
from swiftlet.study.trials import Lab
from swiftlet.zoo import create_model
from swiftlet.zoo.mobilenet_v2 import InvertedResidual

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WIDTH = 32, 0.35
THIN, NONE, PROJECTION = "thin", "none", "thin and projected"
BEFORE, BEHIND = "wide, before ReLU6", "wide, behind ReLU6"  # where its sum is; the paper does not say

PUBLISHED = Table(
    title="MobileNet V2, figure 6b",
    columns=("what the paper says",),
    rows=(
        ("on ImageNet the curve with shortcuts between bottlenecks runs above the one between expansions,",),
        ("and that above the one without residual connections",),
    ),
    source="curves of the validation accuracy over the steps; the paper prints no numbers, and nothing of projections",
)


def run(lab: Lab) -> Finding:
    """Five networks; the verdict asks for thin above wide, wherever the wide one's sum is."""
    arms = [Arm(THIN, partial(network, "identity")), Arm(PROJECTION, partial(network, "projection"))]
    arms += [Arm(BEFORE, partial(wide, True)), Arm(BEHIND, partial(wide, False)), Arm(NONE, partial(network, "none"))]
    trials = lab.trials(arms, side=SIDE)
    before, behind = (trials.gain(THIN, over=label) for label in (BEFORE, BEHIND))
    over_none = {label: trials.gain(label, over=NONE) for label in (THIN, BEFORE, BEHIND)}
    projected = trials.gain(PROJECTION, over=THIN)
    claims = [
        Claim("thin over wide, before ReLU6", "points", before, 0.0),
        Claim("thin over wide, behind ReLU6", "points", behind, 0.0),
        *(Claim(f"{label} over none", "points", gain, 0.0) for label, gain in over_none.items()),
        Claim("projections, where only channels differ, added to thin", "points", projected, 0.0),
    ]
    return Finding(
        study="shortcut",
        title="Shortcuts between thin ends and between wide ends",
        claim="Shortcuts between bottlenecks beat shortcuts between expansions (MobileNet V2).",
        verdict=together([claim.verdict for claim in claims[:2]]),
        sentence=f"On {trials.data}, MobileNet V2 {WIDTH:g} with shortcuts between its thin ends is {before} points "
        f"above the same with shortcuts between its wide ends, summed before their ReLU6, and {behind} above those "
        f"summed behind it; these gain {over_none[BEFORE]} and {over_none[BEHIND]} over none, the thin ones "
        f"{over_none[THIN]}. Projections where only the channels differ add {projected}.",
        effect=Effect("accuracy", "Put shortcuts between the thin ends of inverted bottlenecks.", *min(before, behind)),
        measured=(
            trials.table("Shortcuts", over=NONE),
            claims_table(claims, "accuracy, seed by seed; the verdict is about the first two"),
        ),
        published=(PUBLISHED,),
        notes=(
            trials.note,
            "The verdict is about thin against wide: it holds if thin is better than either way to sum the wide ends.",
            "Both kinds have as many shortcuts, in the same places, and equal MACs; projections have more of both.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    draw_trials(finding.measured[0], figure)


def network(shortcut: str, *, num_classes: int) -> nn.Module:
    return create_model("mobilenet_v2", width=WIDTH, stem_stride=1, shortcut=shortcut, num_classes=num_classes)


def wide(before: bool, *, num_classes: int) -> nn.Module:
    """MobileNet V2 with every identity between thin ends moved to between the wide ones. before: the ReLU6."""
    model: Any = network("identity", num_classes=num_classes)
    model.stages = WideShortcuts((block for stage in model.stages for block in stage), before)
    return model  # type: ignore[no-any-return]


class WideShortcuts(nn.Module):
    """Inverted residuals in a row. Where one had an identity, its expanded channels go to the next one's expansion.

    (B, C, H, W) -> what the last block gives. before: the sum stands in front of the ReLU6 that it ends in.
    """

    def __init__(self, blocks: Iterable[InvertedResidual], before: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.joins = [block.shortcut is not None for block in self.blocks]
        self.before = before

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        carried: Tensor | None = None
        block: Any  # a module of ours, which has these parts
        for block, joins in zip(self.blocks, self.joins, strict=True):
            if carried is None:
                expanded = block.expand(x)
            else:
                convolution, norm, act = block.expand
                expanded = norm(convolution(x))
                expanded = act(carried + expanded) if self.before else carried + act(expanded)
            x = block.project(block.depthwise(expanded))
            carried = expanded if joins else None
        return x
