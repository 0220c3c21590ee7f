import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from swiftlet.data.contract import FILTERS, InputContract, golden_pictures
from swiftlet.errors import BadFile, BadInput


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8))


RESIZE = st.sampled_from(("bilinear", "bicubic"))
CROP_PCT = st.one_of(st.sampled_from((1.0, 0.875, 224 / 232)), st.floats(0.1, 1.0))


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 90), height=st.integers(1, 90), side=st.integers(8, 48), resize=RESIZE, crop_pct=CROP_PCT)
def test_any_picture_gives_side_by_side_and_mirrors_with_it(
    width: int, height: int, side: int, resize: Any, crop_pct: float
) -> None:
    contract, picture = InputContract(side=side, resize=resize, crop_pct=crop_pct), noise(width, height)
    pixels = contract.pixels(picture)
    assert pixels.shape == (side, side, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
    mirrored = contract.pixels(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))[:, ::-1]
    assert np.abs(mirrored.astype(int) - pixels).max() <= 1
    if resize == "bicubic":
        return  # overshoots, which Pillow cuts off between its two passes: turned pictures give other pixels
    turned = contract.pixels(picture.transpose(Image.Transpose.TRANSPOSE)).transpose(1, 0, 2)
    assert np.abs(turned.astype(int) - pixels).max() <= 2  # Pillow rounds after each of its two passes


def test_a_picture_of_the_right_size_is_unchanged_and_an_even_crop_is_exact() -> None:
    picture = noise(24, 24)
    assert np.array_equal(InputContract(side=24).pixels(picture), np.asarray(picture))
    wide = noise(30, 24)
    assert np.array_equal(InputContract(side=24).pixels(wide), np.asarray(wide)[:, 3:27])


@settings(deadline=None, max_examples=100)
@given(width=st.integers(1, 200), height=st.integers(1, 200), side=st.integers(8, 64), resize=RESIZE, crop_pct=CROP_PCT)
def test_it_is_imageops_fit_as_the_reports_snippet_calls_it(
    width: int, height: int, side: int, resize: Any, crop_pct: float
) -> None:
    picture = noise(width, height)
    fitted = ImageOps.fit(picture, (side, side), FILTERS[resize], bleed=(1 - crop_pct) / 2)
    ours = InputContract(side=side, resize=resize, crop_pct=crop_pct).pixels(picture)
    assert np.array_equal(np.asarray(fitted), ours)


def test_224_crop_of_256_is_what_torchvision_and_timm_do() -> None:
    """Resize so that the short side is 256, crop the middle 224: one resize of a box instead, the rest is rounding."""
    picture = Image.radial_gradient("L").resize((341, 512)).convert("RGB")
    scaled = picture.resize((256, round(512 * 256 / 341)), Image.Resampling.BICUBIC)
    left, top = (scaled.width - 224) / 2, (scaled.height - 224) / 2
    theirs = np.asarray(scaled.crop((int(left), int(top), int(left) + 224, int(top) + 224)))
    ours = InputContract(side=224, resize="bicubic", crop_pct=224 / 256).pixels(picture)
    assert np.abs(theirs.astype(int) - ours).max() <= 3


def test_extreme_shapes_stay_bounded() -> None:
    for size in ((1, 50_000), (50_000, 1), (1, 1)):
        for crop_pct in (1.0, 0.01):
            contract = InputContract(side=64, crop_pct=crop_pct)
            assert contract.pixels(Image.new("RGB", size, (1, 2, 3)))[5, 5].tolist() == [1, 2, 3]


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
    contract = InputContract(side=96, mean=(1.5, 2, 3), std=(4.0, 5.0, 6.0), resize="bicubic", crop_pct=0.875)
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
        ({"resize": "lanczos"}, "resize"),
        ({"resize": ["bicubic"]}, "resize"),
        ({"crop_pct": 0}, "crop_pct"),
        ({"crop_pct": 1.01}, "crop_pct"),
        ({"crop_pct": float("nan")}, "crop_pct"),
        ({"crop_pct": True}, "crop_pct"),
        ({"crop": None}, "crop"),
        ({"exif": "ignore"}, "exif"),
        ({"colour": "BGR"}, "colour"),
        ({"extra": 1}, "extra"),
    ],
)
def test_from_json_names_the_bad_key(change: dict[str, object], named: str) -> None:
    with pytest.raises(BadFile, match=named):
        InputContract.from_json(InputContract(side=32).to_json() | change)
    if named in ("side", "mean", "std", "resize", "crop_pct"):
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
