"""The networks of benchmarks/accuracy.py: candidates and anchors for each task, with what they count to."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from benchmarks.resnet8 import resnet8
from swiftlet.budget import Budget
from swiftlet.recipes import get_recipe
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import create_model

# Fashion-MNIST's clothes may be mirrored, which glyphs may not, and lie straight.
FASHION = replace(get_recipe("glyphs_long"), name="fashion", flip=True, rotation=5.0)
KB30, KB100 = Budget(size_bytes=30_000), Budget(size_bytes=100_000)
RESNET8 = Budget(params=77_946, macs=12_501_632)  # by our counting, with BatchNorm's weights (resnet8.py)
HALF_RESNET20 = Budget(macs=40_551_040 // 2)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network, how it is trained, and what it must not cost. `counted`: parameters and multiply-adds, which a test
    recounts, and bytes of an untrained int8 file without its metadata (2 to 4 KB)."""

    network: str
    arguments: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe
    epochs: float
    counted: tuple[int, int, int]
    budget: Budget = field(default_factory=Budget)
    teacher: str | None = None  # the name of another row
    anchor: bool = False

    @property
    def name(self) -> str:
        width = f"-{self.arguments['width']:g}" if "width" in self.arguments else ""
        return f"{self.network}{width}{'-taught' if self.teacher else ''}"

    def build(self) -> nn.Module:
        if self.network == "resnet8":
            return resnet8()
        return create_model(self.network, num_classes=10, **self.arguments)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"counted": list(self.counted)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A set of pictures under SWIFTLET_DATA, and the rows of its table."""

    name: str
    data: str
    side: int
    rows: tuple[Row, ...]

    def find(self, name: str) -> Row:
        """Raises SystemExit, with the names that there are."""
        for row in self.rows:
            if row.name == name:
                return row
        raise SystemExit(f"{self.name}: no row {name!r}; there are {', '.join(row.name for row in self.rows)}")


Line = tuple[str, dict[str, Any], tuple[int, int, int], dict[str, Any]]


def _rows(recipe: Recipe, epochs: float, *lines: Line) -> tuple[Row, ...]:
    """Of network, arguments, counted, other fields."""
    return tuple(
        Row(network=network, arguments=arguments, recipe=recipe, epochs=epochs, counted=counted, **other)
        for network, arguments, counted, other in lines
    )


SMALL, STEM, SHALLOW = {"small_input": True}, {"stem_stride": 1}, {"shallow": True}  # the first two: no early stride
TAUGHT = {"budget": RESNET8, "teacher": "resnet20"}
TASKS = {
    task.name: task
    for task in (
        Task(
            name="mnist", data="mnist/mnist.npz", side=28,
            rows=_rows(
                get_recipe("glyphs_long"), 20,
                ("mobilenet_v1", STEM | SHALLOW | {"width": 0.0625}, (10_306, 397_848, 20_200), {"budget": KB30}),
                ("resnet20", {"width": 0.1875}, (9_500, 899_760, 20_100), {"budget": KB30}),
            ),
        ),
        Task(
            name="fashion", data="fashion_mnist/fashion_mnist.npz", side=28,
            rows=_rows(
                FASHION, 100,
                ("resnet20", {"width": 0.5}, (68_050, 7_846_592, 80_900), {"budget": KB100}),
                ("resnet56", {"width": 0.25}, (54_286, 6_068_320, 83_100), {"budget": KB100}),
                ("mobilenet_v1", STEM | {"width": 0.125}, (58_962, 1_007_632, 82_100), {"budget": KB100}),
            ),
        ),
        Task(
            name="cifar10", data="cifar10/cifar10_jpeg.npz", side=32,
            rows=_rows(
                get_recipe("cifar"), 100,
                ("resnet8", {}, (77_946, 12_501_632, 85_300), {"anchor": True}),
                ("resnet20", {}, (269_722, 40_551_040, 286_100), {"anchor": True}),
                ("resnet20", {"width": 0.55}, (74_322, 10_647_124, 87_300), {"budget": RESNET8}),
                ("resnet56", {"width": 0.3}, (64_926, 8_601_012, 94_100), {"budget": RESNET8}),
                ("ghost_resnet56", {"width": 0.42}, (76_224, 11_087_684, 137_900), {"budget": RESNET8}),
                ("ghost_resnet56", {"width": 0.42}, (76_224, 11_087_684, 137_700), TAUGHT),
                ("resnet56", {"width": 0.41}, (136_776, 18_743_300, 168_500), {"budget": HALF_RESNET20}),
                ("ghost_resnet56", {"width": 0.54}, (127_806, 18_654_100, 191_900), {"budget": HALF_RESNET20}),
                ("resnet18", SMALL | {"width": 0.1875}, (395_350, 19_796_928, 412_400), {"budget": HALF_RESNET20}),
            ),
        ),
    )
}  # fmt: skip
