"""Knowledge distillation (Hinton et al. 2015, sections 2 and 6): what a teacher's answers are worth to a small network.

The control is the same network on the same pictures for as many steps without the teacher. With 3 % of the pictures,
as in section 6, the teacher still comes from all of them: what it learnt there is what it passes on.
"""

from functools import partial
from typing import TYPE_CHECKING

from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.trained.claims import comparisons
from swiftlet.study.trial import RECIPE, Arm
from swiftlet.study.trial_chart import draw_trials
from swiftlet.study.trials import Lab, judge_gain
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, FEW = 32, 0.03
TEACHER, ALONE, TAUGHT = "teacher", "alone", "taught"
ALONE_FEW, TAUGHT_FEW = f"{ALONE}, {100 * FEW:g} %", f"{TAUGHT}, {100 * FEW:g} %"
STUDENT, LARGE = "MobileNet V1 0.125", "ResNet-20 0.5"  # a ninth of the multiply-adds

PUBLISHED = (
    Table(
        title="Distillation, section 3: MNIST, 10,000 test pictures",
        columns=("network", "errors"),
        rows=(("teacher, 2 x 1200 units", 67), ("2 x 800 units, alone", 146), ("2 x 800 units, taught", 74)),
        source="temperature 20; the small network has no regularisation of its own",
    ),
    Table(
        title="Distillation, sections 4 and 6: speech",
        columns=("network", "training data %", "frame accuracy %"),
        rows=(
            ("ten networks together", 100, 61.1),
            ("one, alone", 100, 58.9),
            ("one, taught by the ten", 100, 60.8),
            ("one, alone", 3, 44.5),
            ("one, taught", 3, 57.0),
        ),
        source="tables 1 and 5, on held-out frames",
    ),
)


def run(lab: Lab) -> Finding:
    """One student alone and taught, on all pictures and on few; the verdict is about all."""
    student = partial(create_model, "mobilenet_v1", width=0.125, stem_stride=1)
    teacher = Arm(TEACHER, partial(create_model, "resnet20", width=0.5))
    arms = [
        Arm(ALONE, student),
        Arm(TAUGHT, student, teacher=teacher),
        Arm(ALONE_FEW, student, share=FEW),
        Arm(TAUGHT_FEW, student, share=FEW, teacher=teacher),
    ]
    trials = lab.trials(arms, side=SIDE)
    gained, few = trials.gain(TAUGHT, over=ALONE), trials.gain(TAUGHT_FEW, over=ALONE_FEW)
    missing = trials.gain(ALONE_FEW, over=ALONE)
    compared = {f"{TAUGHT} over {ALONE}": gained, f"{TAUGHT_FEW} over {ALONE_FEW}": few}
    (taught_by,) = trials.of(TEACHER)
    return Finding(
        study="distill",
        title="What a teacher is worth to a small network",
        claim="A small network learns more from a large one's answers and the labels than from the labels alone "
        "(Hinton et al.).",
        verdict=judge_gain(gained),
        sentence=f"On {trials.data}, {STUDENT} taught by a {LARGE} of {taught_by:.1f} % is {gained} points above the "
        f"same alone; with {100 * FEW:g} % of the pictures, where alone it is at {missing.mean:+.2f}, {few} above.",
        effect=Effect("accuracy", "Let a larger network teach a small one.", *gained),
        measured=(trials.table("Alone and taught", over=ALONE), comparisons(compared)),
        published=PUBLISHED,
        notes=(
            trials.note,
            f"The {LARGE} trains once, on all pictures and for as many steps. Its answers weigh "
            f"{RECIPE.teacher_weight:g} at temperature {RECIPE.temperature:g}, the labels the rest. It has no label "
            "smoothing, which would blur its answers (Mueller et al. 2019).",
            "A taught step takes longer, by the teacher's forward pass: at equal steps a student alone has more time "
            "left. Of what a few pictures alone miss, the paper's teacher gives back 12.5 of 14.4 points.",
        ),
    )


def draw(finding: Finding, figure: "Figure") -> None:
    draw_trials(finding.measured[0], figure)
