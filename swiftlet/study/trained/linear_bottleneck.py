"""Linear bottlenecks (MobileNet V2, section 3.2 and figure 6a): what an activation behind the projection costs."""

from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trial import Arm
from swiftlet.study.trial_chart import draw_trials
from swiftlet.study.trials import Lab, judge_gain
from swiftlet.zoo import create_model
from swiftlet.zoo.mobilenet_v2 import InvertedResidual

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, WIDTH = 32, 0.35
LINEAR, BEHIND = "linear", {"ReLU6": nn.ReLU6, "ReLU": nn.ReLU}

PUBLISHED = Table(
    title="MobileNet V2, figure 6a",
    columns=("what the paper says",),
    rows=(("on ImageNet the curve with linear bottlenecks runs above the one with ReLU6 in them",),),
    source="curves of the validation accuracy over the steps; the paper prints no numbers",
)


def run(lab: Lab) -> Finding:
    """Three networks, which differ in one module a block; the verdict is about linear against ReLU6."""
    linear = partial(create_model, "mobilenet_v2", width=WIDTH, stem_stride=1)
    arms = [Arm(LINEAR, linear), *(Arm(name, partial(with_activation, name)) for name in BEHIND)]
    trials = lab.trials(arms, side=SIDE)
    better = trials.gain(LINEAR, over="ReLU6")
    return Finding(
        study="linear-bottleneck",
        title="An activation behind the bottleneck",
        claim="A bottleneck without a non-linearity is more accurate than one with ReLU6 (MobileNet V2).",
        verdict=judge_gain(better),
        sentence=f"On {trials.data}, MobileNet V2 {WIDTH:g} with linear bottlenecks is {better} points above the same "
        f"with ReLU6 behind them; ReLU is {trials.gain('ReLU', over='ReLU6')} points above ReLU6.",
        effect=Effect("accuracy", "Put no activation behind the narrow layer of an inverted bottleneck.", *better),
        measured=(trials.table("Behind the projection", over=LINEAR),),
        published=(PUBLISHED,),
        notes=(trials.note,),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    draw_trials(finding.measured[0], figure)


def with_activation(kind: str, *, num_classes: int) -> nn.Module:
    """MobileNet V2 with that activation behind every projection, before the sum."""
    model = create_model("mobilenet_v2", width=WIDTH, stem_stride=1, num_classes=num_classes)
    for block in [module for module in model.modules() if isinstance(module, InvertedResidual)]:
        block.project = nn.Sequential(block.project, BEHIND[kind]())
    return model
