"""check on files that are not ours, and on files that are at fault."""

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import nn
from toy import COLOURS, write_photos

from swiftlet.budget import Budget
from swiftlet.check import Classifier, check, load_classifier, wilson
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput, BadPhotos


class NearestColour(nn.Module):
    """A classifier that is right by construction: scores are minus the distance of the mean pixel to each colour."""

    def __init__(self, layout: str, scale: float, classes: int = 4) -> None:
        super().__init__()
        self.layout, self.scale = layout, scale
        colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
        self.colours = nn.Parameter(torch.cat((colours, torch.full((classes - 4, 3), -999.0))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.float().mean((2, 3) if self.layout == "NCHW" else (1, 2)) * self.scale  # (B, 3)
        return -((mean.unsqueeze(1) - self.colours) ** 2).sum(2)


def foreign(path: Path, model: nn.Module, example: torch.Tensor, *, batch: bool = True) -> Path:
    blob = io.BytesIO()
    axes = {"x": {0: "batch"}} if batch else None
    with pytest.warns(DeprecationWarning):
        torch.onnx.export(model, (example,), blob, input_names=["x"], dynamic_axes=axes, dynamo=False)
    path.write_bytes(blob.getvalue())
    return path


UNIT = InputContract(side=224, mean=(0, 0, 0), std=(255, 255, 255))


@pytest.mark.parametrize(
    ("layout", "dtype", "batch"),
    [
        ("NCHW", torch.float32, True),
        ("NHWC", torch.float32, False),
        ("NCHW", torch.uint8, False),
        ("NHWC", torch.uint8, True),
    ],
)
def test_foreign_layouts_and_types(tmp_path: Path, layout: str, dtype: torch.dtype, batch: bool) -> None:
    shape = (1, 3, 32, 32) if layout == "NCHW" else (1, 32, 32, 3)
    model = NearestColour(layout, 255.0 if dtype == torch.float32 else 1.0)
    file = foreign(tmp_path / "theirs.onnx", model, torch.zeros(shape, dtype=dtype), batch=batch)
    photos = write_photos(tmp_path / "photos", per_class=5)
    found = check(file, photos, contract=UNIT, budget=Budget(size_bytes=100), seconds=0.1)
    assert found.accuracy == 1.0 and found.n == 20 and found.labels == tuple(COLOURS)
    assert found.parity_max_abs is None and found.parity_ok is None
    assert "size_bytes" in found.over
    assert any("does not say what pixels" in note for note in found.notes)


def test_as_many_labels_as_outputs(tmp_path: Path) -> None:
    file = foreign(tmp_path / "theirs.onnx", NearestColour("NCHW", 255.0, classes=6), torch.zeros(1, 3, 32, 32))
    photos = write_photos(tmp_path / "photos", per_class=3)
    with pytest.raises(BadInput, match="gives 6 scores but there are 4 labels"):
        check(file, photos, contract=UNIT, seconds=0.1)
    labels = (*COLOURS, "violet", "white")
    assert check(file, photos, contract=UNIT, labels=labels, seconds=0.1).accuracy == 1.0
    with pytest.raises(BadPhotos, match="blue"):
        check(file, photos, contract=UNIT, labels=tuple("abcdef"), seconds=0.1)


def test_the_last_incomplete_batch_is_not_lost(tmp_path: Path) -> None:
    """A file whose batch is fixed at 4 scores 10 pictures as one at a time does."""
    model = NearestColour("NHWC", 1.0)
    four = load_classifier(foreign(tmp_path / "4.onnx", model, torch.zeros(4, 8, 8, 3, dtype=torch.uint8), batch=False))
    free = load_classifier(foreign(tmp_path / "n.onnx", model, torch.zeros(1, 8, 8, 3, dtype=torch.uint8)))
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(four.scores(pixels), free.scores(pixels))
    assert isinstance(four, Classifier) and four.scores(pixels).shape == (10, 4)


def tiny(dims: tuple[int, ...], **initializer: object) -> onnx.ModelProto:
    """A file of about a hundred bytes: ConstantOfShape of the given dimensions, added to nothing."""
    shape = helper.make_tensor("s", TensorProto.INT64, [len(dims)], dims)
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [shape],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def test_files_at_fault_are_refused_by_name(tmp_path: Path) -> None:
    good = foreign(tmp_path / "good.onnx", NearestColour("NCHW", 255.0), torch.zeros(1, 3, 32, 32)).read_bytes()
    bad = {
        "truncated.onnx": good[: len(good) // 2],
        "empty.onnx": b"",
        "text.onnx": b"this is no network",
        "two_gigabytes.onnx": tiny((512, 1024, 1024)).SerializeToString(),
    }
    external = onnx.load_from_string(good)
    onnx.external_data_helper.convert_model_to_external_data(external, location="weights.bin", size_threshold=0)
    onnx.save(external, tmp_path / "external.onnx")
    assert len(bad["two_gigabytes.onnx"]) < 130
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    for name in (*bad, "external.onnx", "nowhere.onnx"):
        with pytest.raises(BadFile, match=name):
            check(tmp_path / name)


def test_rectangular_and_many_inputs_are_refused(tmp_path: Path) -> None:
    file = foreign(tmp_path / "wide.onnx", NearestColour("NCHW", 255.0), torch.zeros(1, 3, 32, 64))
    with pytest.raises(BadInput, match="32 x 64"):
        check(file)
    flat = foreign(tmp_path / "flat.onnx", nn.Linear(3, 2), torch.zeros(1, 3))
    with pytest.raises(BadInput, match="picture input"):
        check(flat)


def test_wilson_interval_matches_the_published_example() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662 (Wilson, no continuity correction)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    low, high = wilson(10, 10)
    assert low > 0.69 and high == 1.0


def test_orientation_reaches_the_accuracy(tmp_path: Path) -> None:
    """A photo stored on its side, with the EXIF tag that says so, is scored upright."""

    class TopLight(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = x.float().mean((2, 3))  # NHWC: (B, H)
            half = rows.shape[1] // 2
            return torch.stack((rows[:, half:].mean(1), rows[:, :half].mean(1)), 1)

    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255  # light on top, after the tag is applied
    upright = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it by 90 degrees clockwise
    for label in ("dark_top", "light_top"):
        (tmp_path / "photos" / label).mkdir(parents=True)
    upright.rotate(90, expand=True).save(tmp_path / "photos" / "light_top" / "a.png", exif=exif)
    upright.rotate(180).save(tmp_path / "photos" / "dark_top" / "b.png")
    file = foreign(tmp_path / "top.onnx", TopLight(), torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    assert check(file, tmp_path / "photos", seconds=0.1).accuracy == 1.0
