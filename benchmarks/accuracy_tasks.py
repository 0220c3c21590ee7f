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
# With rounded weights and without BatchNorm: a twentieth of the rate, see compress/qat.py.
ROUNDED = replace(get_recipe("glyphs_long"), name="glyphs_rounded", lr=0.015, clip=1.0)
KB30, KB100 = Budget(size_bytes=30_000), Budget(size_bytes=100_000)
DOWNLOAD8 = Budget(packed_bytes=8_000)
RESNET8 = Budget(params=77_946, macs=12_501_632)  # by our counting, with BatchNorm's weights (resnet8.py)
HALF_RESNET20 = Budget(macs=40_551_040 // 2)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network, how it is trained, and what it must not cost. `counted`: parameters and multiply-adds, which a test
    recounts, and bytes of an untrained int8 file without its metadata (2 to 4 KB).

    teacher: the name of another row. With `bits` that network itself is trained on, with weights of so many bits, and
    what is measured is its container, as it is unpacked; bytes counted are then those of the container (0.5 KB more
    with metadata)."""

    network: str
    arguments: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe
    epochs: float
    counted: tuple[int, int, int]
    budget: Budget = field(default_factory=Budget)
    teacher: str | None = None
    bits: int | None = None
    anchor: bool = False

    @property
    def name(self) -> str:
        width = f"-{self.arguments['width']:g}" if "width" in self.arguments else ""
        how = f"-{self.bits}bit" if self.bits else "-taught" if self.teacher else ""
        return f"{self.network}{width}{how}"

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
    usual: dict[str, Any] = {"recipe": recipe, "epochs": epochs}
    return tuple(
        Row(network=network, arguments=arguments, counted=counted, **usual | other)
        for network, arguments, counted, other in lines
    )


SMALL, STEM, SHALLOW = {"small_input": True}, {"stem_stride": 1}, {"shallow": True}  # the first two: no early stride
TAUGHT = {"budget": RESNET8, "teacher": "resnet20"}
PACKED = {"budget": DOWNLOAD8, "teacher": "resnet20-0.1875", "recipe": ROUNDED, "epochs": 5}
TASKS = {
    task.name: task
    for task in (
        Task(
            name="mnist", data="mnist/mnist.npz", side=28,
            rows=_rows(
                get_recipe("glyphs_long"), 20,
                ("mobilenet_v1", STEM | SHALLOW | {"width": 0.0625}, (10_306, 397_848, 20_300), {"budget": KB30}),
                ("resnet20", {"width": 0.1875}, (9_500, 899_760, 20_200), {"budget": KB30}),
                ("resnet20", {"width": 0.1875}, (9_500, 899_760, 6_400), PACKED | {"bits": 4}),
            ),
        ),
        Task(
            name="fashion", data="fashion_mnist/fashion_mnist.npz", side=28,
            rows=_rows(
                FASHION, 100,
                ("resnet20", {"width": 0.5}, (68_050, 7_846_592, 81_000), {"budget": KB100}),
                ("resnet56", {"width": 0.25}, (54_286, 6_068_320, 82_400), {"budget": KB100}),
                ("mobilenet_v1", STEM | {"width": 0.125}, (58_962, 1_007_632, 82_200), {"budget": KB100}),
            ),
        ),
        Task(
            name="cifar10", data="cifar10/cifar10_jpeg.npz", side=32,
            rows=_rows(
                get_recipe("cifar"), 100,
                ("resnet8", {}, (77_946, 12_501_632, 85_400), {"anchor": True}),
                ("resnet20", {}, (269_722, 40_551_040, 286_200), {"anchor": True}),
                ("resnet20", {"width": 0.55}, (74_322, 10_647_124, 87_400), {"budget": RESNET8}),
                ("resnet56", {"width": 0.3}, (64_926, 8_601_012, 93_400), {"budget": RESNET8}),
                ("ghost_resnet56", {"width": 0.42}, (76_224, 11_087_684, 135_500), {"budget": RESNET8}),
                ("ghost_resnet56", {"width": 0.42}, (76_224, 11_087_684, 135_500), TAUGHT),
                ("resnet56", {"width": 0.41}, (136_776, 18_743_300, 167_800), {"budget": HALF_RESNET20}),
                ("ghost_resnet56", {"width": 0.54}, (127_806, 18_654_100, 189_600), {"budget": HALF_RESNET20}),
                ("resnet18", SMALL | {"width": 0.1875}, (395_350, 19_796_928, 412_600), {"budget": HALF_RESNET20}),
            ),
        ),
    )
}  # fmt: skip
