import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from swiftlet.data.contract import InputContract, golden_pictures
from swiftlet.errors import BadFile, BadInput


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8))


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 90), height=st.integers(1, 90), side=st.integers(8, 48))
def test_any_picture_gives_side_by_side_and_mirrors_with_it(width: int, height: int, side: int) -> None:
    contract, picture = InputContract(side=side), noise(width, height)
    pixels = contract.pixels(picture)
    assert pixels.shape == (side, side, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
    mirrored = contract.pixels(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))[:, ::-1]
    assert np.abs(mirrored.astype(int) - pixels).max() <= 1
    turned = contract.pixels(picture.transpose(Image.Transpose.TRANSPOSE)).transpose(1, 0, 2)
    assert np.abs(turned.astype(int) - pixels).max() <= 2  # Pillow rounds after each of its two passes


def test_a_picture_of_the_right_size_is_unchanged_and_an_even_crop_is_exact() -> None:
    picture = noise(24, 24)
    assert np.array_equal(InputContract(side=24).pixels(picture), np.asarray(picture))
    wide = noise(30, 24)
    assert np.array_equal(InputContract(side=24).pixels(wide), np.asarray(wide)[:, 3:27])


def test_extreme_shapes_stay_bounded() -> None:
    for size in ((1, 50_000), (50_000, 1), (1, 1)):
        assert InputContract(side=64).pixels(Image.new("RGB", size, (1, 2, 3)))[5, 5].tolist() == [1, 2, 3]


def test_pixels_refuses_another_mode() -> None:
    with pytest.raises(BadInput, match="mode L"):
        InputContract(side=8).pixels(Image.new("L", (8, 8)))


def test_normalise() -> None:
    contract = InputContract(side=8, mean=(0.0, 128.0, 10.0), std=(1.0, 64.0, 0.1))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    out = contract.normalise(pixels)
    mean, std = np.array(contract.mean, np.float32), np.array(contract.std, np.float32)
    assert out.dtype == np.float32 and out.transpose(0, 2, 3, 1).flags.c_contiguous  # channels last
    assert np.array_equal(out, ((pixels.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))
    for wrong in (pixels[0], pixels.astype(np.float32), pixels[:, :7]):
        with pytest.raises(BadInput, match="normalise takes uint8"):
            contract.normalise(wrong)


def test_json_comes_back_equal() -> None:
    contract = InputContract(side=96, mean=(1.5, 2, 3), std=(4.0, 5.0, 6.0))
    assert InputContract.from_json(json.loads(json.dumps(contract.to_json()))) == contract


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"side": 7}, "side"),
        ({"side": True}, "side"),
        ({"side": 32.0}, "side"),
        ({"side": 1025}, "side"),
        ({"mean": [1, 2]}, "mean"),
        ({"mean": "abc"}, "mean"),
        ({"mean": [1, 2, float("nan")]}, "mean"),
        ({"std": [1, 0, 1]}, "std"),
        ({"std": [1, True, 1]}, "std"),
        ({"resize": "bicubic"}, "resize"),
        ({"crop": None}, "crop"),
        ({"exif": "ignore"}, "exif"),
        ({"colour": "BGR"}, "colour"),
        ({"extra": 1}, "extra"),
    ],
)
def test_from_json_names_the_bad_key(change: dict[str, object], named: str) -> None:
    with pytest.raises(BadFile, match=named):
        InputContract.from_json(InputContract(side=32).to_json() | change)
    if named in ("side", "mean", "std"):
        with pytest.raises(BadInput, match=named):
            InputContract(**({"side": 32} | change))  # type: ignore[arg-type]


def test_from_json_wants_every_key_and_an_object() -> None:
    whole = InputContract(side=32).to_json()
    for key in whole:
        with pytest.raises(BadFile, match=f"'{key}' is missing"):
            InputContract.from_json({name: value for name, value in whole.items() if name != key})
    with pytest.raises(BadFile, match="expected an object"):
        InputContract.from_json([whole])


def test_golden_pictures_are_the_same_on_every_machine() -> None:
    """The digests pin the formula: delivered files carry scores for exactly these pictures."""
    pictures = golden_pictures()
    assert [f"{name.split('-')[0]}-{image.width}x{image.height}" for name, image in pictures] == [
        n for n, _ in pictures
    ]
    digests = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for _, image in pictures]
    assert digests == ["6bb7f36dc6438875", "36e16ec7a6b90849", "2c47cb249fcd2332", "0e305eb878116107"]
    for _, image in pictures:
        assert all(low < 64 and high > 191 for low, high in image.getextrema())
