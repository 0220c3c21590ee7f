"""Recipe: everything that decides a training run, apart from the network and the pictures."""

from dataclasses import asdict, dataclass, replace

from swiftlet.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """SGD with Nesterov momentum, warm-up and cosine decay, label smoothing, EMA, random affine crops.

    lr is the peak rate at batch size `batch`; weight_decay spares BatchNorm, biases and depthwise weights (V1
    paper, section 3.4). warmup and ema_horizon are shares of all steps. A crop covers min_area..1 of the picture
    at aspect ratios aspect..1/aspect; rotation is in degrees; jitter scales brightness and contrast by 1 +- jitter.
    """

    name: str
    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 64
    warmup: float = 0.1
    label_smoothing: float = 0.1
    ema_horizon: float = 0.02
    min_area: float = 0.35
    aspect: float = 0.75
    rotation: float = 0.0
    jitter: float = 0.2
    flip: bool = True

    def __post_init__(self) -> None:
        if not (self.lr > 0 and 0 <= self.momentum < 1 and self.batch >= 1 and 0 < self.min_area <= 1):
            raise BadInput(f"Recipe {self.name!r}: needs lr > 0, 0 <= momentum < 1, batch >= 1, 0 < min_area <= 1")

    def to_json(self) -> dict[str, object]:
        return asdict(self)


PHOTOS = Recipe(name="photos", batch=32, min_area=0.5)
# Digits, letters, symbols: a mirrored one is another one, and a tight crop cuts strokes off.
GLYPHS = Recipe(name="glyphs", lr=0.3, min_area=0.7, aspect=0.85, rotation=12.0, jitter=0.1, flip=False)


def finetuning(recipe: Recipe) -> Recipe:
    """The recipe from trained weights: a lower rate, which changes them little (docs/log.md has the experiments)."""
    return replace(recipe, name=f"{recipe.name}-finetuning", lr=0.01)


def recipe_for(*, grey: bool) -> Recipe:
    """The recipe for a set of pictures. Grey sets are taken for glyphs: mirroring could turn one class into another."""
    return GLYPHS if grey else PHOTOS
