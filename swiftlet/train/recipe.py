"""Recipe: everything that decides a training run, apart from the network, the pictures and a teacher."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from swiftlet.errors import BadFile, BadInput

Optimizer = Literal["sgd", "rmsprop", "adamw"]
Schedule = Literal["cosine", "linear", "exponential", "one-cycle"]
Decayed = Literal["all", "weights", "dense"]
Policy = Literal["none", "randaugment", "autoaugment-imagenet", "autoaugment-cifar10"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One training run. Raises BadInput naming the field that cannot be.

    Steps. optimizer: "sgd" with Nesterov's momentum unless told otherwise; "rmsprop" in TensorFlow's form, in which the
    MobileNet papers use it (epsilon inside the root, squares start at 1, momentum takes the learning rate in);
    "adamw". lr: the peak, at batch size `batch`. momentum: of AdamW its beta 1. square_decay: of the running squares,
    for RMSprop and AdamW (beta 2). decayed: "all" parameters, all "weights" (neither BatchNorm nor biases), or only
    "dense" ones (nor depthwise weights, V1's section 3.4). clip: largest norm of all gradients, 0 for none.
    Length. epochs: of the paper's run, None where the time that there is decides.
    Rates. warmup: share of all steps, linear. "exponential" multiplies by `gamma` every `gamma_epochs` epochs; the
    others reach 0 at the end. ema: horizon of the averaged weights, as a share of all steps (0.02 = 1/50 of the run).
    Loss. label_smoothing; dropout: None leaves the network's own; teacher_weight: of a teacher's answer against the
    labels, at `temperature` (Hinton et al., 2015).
    Pictures. A crop covers min_area..1 of the picture at aspect ratios aspect..1/aspect, and its side is `side_from`..1
    of the network's, growing until three quarters of the run. rotation in degrees; jitter: brightness and contrast by
    1 +- jitter; colour: saturation likewise. policy, with `operations` and `magnitude` (0 to 10) of RandAugment;
    erasing: probability; mixup and cutmix: alpha of the beta distribution, 0 for neither, and one of both by lot.
    """

    name: str
    optimizer: Optimizer = "sgd"
    lr: float = 0.2
    momentum: float = 0.9
    nesterov: bool = True
    square_decay: float = 0.9
    epsilon: float = 1e-8
    weight_decay: float = 5e-4
    decayed: Decayed = "dense"
    clip: float = 0.0
    batch: int = 64
    epochs: float | None = None
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    gamma: float = 1.0
    gamma_epochs: float = 1.0
    ema: float = 0.02
    label_smoothing: float = 0.1
    dropout: float | None = None
    teacher_weight: float = 0.9
    temperature: float = 4.0
    min_area: float = 0.35
    aspect: float = 0.75
    side_from: float = 1.0
    rotation: float = 0.0
    jitter: float = 0.2
    colour: float = 0.0
    flip: bool = True
    policy: Policy = "none"
    operations: int = 2
    magnitude: float = 9.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, fits, needed in _RULES:
            value = getattr(self, name)
            if not fits(value):
                raise BadInput(f"Recipe {self.name!r}: {name}={value!r}, needs {needed}")

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Recipe":
        """Raises BadFile if a field is missing or unknown, BadInput if one cannot be."""
        names = {field.name for field in fields(cls)}
        for key in sorted(data.keys() ^ names):
            raise BadFile(f"recipe: {key!r} is {'missing' if key in names else 'unknown'}")
        return cls(**data)


def _between(low: float, high: float) -> tuple[Any, str]:
    return lambda x: low <= x <= high, f"{low:g} to {high:g}"


def _above(low: float) -> tuple[Any, str]:
    return lambda x: x > low, f"more than {low:g}"


def _one_of(kind: Any) -> tuple[Any, str]:
    return lambda x: x in get_args(kind), "one of " + ", ".join(get_args(kind))


_SHARE = (lambda x: 0 <= x < 1, "at least 0, less than 1")
_PART = (lambda x: 0 < x <= 1, "more than 0, at most 1")
_RULES = [
    ("optimizer", *_one_of(Optimizer)),
    ("schedule", *_one_of(Schedule)),
    ("decayed", *_one_of(Decayed)),
    ("policy", *_one_of(Policy)),
    *((name, *_above(0)) for name in ("lr", "epsilon", "gamma_epochs", "temperature")),
    *((name, *_SHARE) for name in ("momentum", "square_decay", "warmup", "label_smoothing", "jitter", "colour")),
    *((name, *_PART) for name in ("gamma", "min_area", "aspect", "side_from")),
    *((name, *_between(0, 1)) for name in ("ema", "teacher_weight", "erasing")),
    *((name, lambda x: x >= 0, "at least 0") for name in ("weight_decay", "clip", "mixup", "cutmix")),
    ("epochs", lambda x: x is None or x > 0, "None, or more than 0"),
    ("batch", lambda x: isinstance(x, int) and x >= 1, "a whole number, at least 1"),
    ("operations", lambda x: isinstance(x, int) and 1 <= x <= 8, "1 to 8"),
    ("magnitude", *_between(0, 10)),
    ("rotation", *_between(0, 180)),
    ("dropout", lambda x: x is None or 0 <= x < 1, "None, or at least 0 and less than 1"),
]
