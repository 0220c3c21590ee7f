"""Augmentation: a picture's view is a function of its key, operations are Pillow's, and nothing else is done."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision_ops  # noqa: F401 (before torchvision)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import beta, kstest
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import autoaugment
from torchvision.transforms import functional as reference
from torchvision.transforms.transforms import RandomErasing, RandomResizedCrop

from swiftlet.data.contract import InputContract, golden_pictures
from swiftlet.errors import BadInput
from swiftlet.train.augment import augment, normalised, refuse_other_sides, side_at
from swiftlet.train.boxes import TRIES, random_boxes
from swiftlet.train.draws import keys, uniforms
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.mix import Mixed, erase, mix
from swiftlet.train.operations import GREY, OPERATIONS, operate
from swiftlet.train.policies import AUTOAUGMENT, HIGHEST, RANDAUGMENT
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import create_model

STILL = Recipe(name="still", min_area=1.0, aspect=1.0, jitter=0.0, flip=False)
EVERYTHING = Recipe(
    name="everything", min_area=0.08, rotation=15.0, jitter=0.3, colour=0.4, policy="randaugment", erasing=0.5
)  # fmt: skip
KEYS = keys(0, 0, np.arange(400))
MANY = keys(5, 2, np.arange(20_000))


GOLDEN = [picture for _, picture in golden_pictures()]


def photos(side: int, n: int = 4) -> Tensor:
    """uint8 (n, side, side, 3): the golden pictures, again and again."""
    pixels = [InputContract(side=side).pixels(picture) for picture in GOLDEN]
    return torch.from_numpy(np.stack([pixels[i % 4] for i in range(n)]))


def floats(side: int, n: int = 4) -> Tensor:
    return photos(side, n).permute(0, 3, 1, 2).float().contiguous()


def whole(pixels: Tensor, recipe: Recipe, side: int, of: np.ndarray) -> Tensor:
    """All that a recipe does to a picture alone."""
    return erase(normalised(augment(pixels, recipe, side, of), InputContract(side=side)), recipe, of)


@pytest.mark.parametrize("policy", ["randaugment", "autoaugment-imagenet", "autoaugment-cifar10"])
def test_a_view_depends_on_the_picture_and_its_key_alone(policy):
    recipe = dataclasses.replace(EVERYTHING, policy=policy)
    pixels = photos(33, n=48)
    views = whole(pixels, recipe, 29, KEYS[:48])
    for members in ([0], [47], range(5, 22), [40, 3, 11], range(47, -1, -1)):
        assert torch.equal(whole(pixels[list(members)], recipe, 29, KEYS[list(members)]), views[list(members)])
    assert not torch.equal(whole(pixels, recipe, 29, KEYS[1:49]), views)
    assert torch.equal(pixels, photos(33, n=48))


@pytest.mark.parametrize("policy", ["randaugment", "autoaugment-imagenet", "autoaugment-cifar10"])
def test_the_pixels_stay_on_their_device_and_nobody_waits_for_them(policy):
    """On a device without memory, where mixing devices raises, and so does reading a value."""
    recipe = dataclasses.replace(EVERYTHING, policy=policy, mixup=0.2, cutmix=1.0)
    images = whole(photos(33, n=40).to("meta"), recipe, 29, KEYS[:40])
    batch = mix(images, torch.zeros(40, dtype=torch.int64, device="meta"), recipe, KEYS[:40])
    assert batch.images.shape == (40, 3, 29, 29)
    loss = batch.loss(torch.zeros(40, 5, device="meta"), 0.1)
    assert {batch.images.device.type, batch.others.device.type, batch.shares.device.type, loss.device.type} == {"meta"}


@pytest.mark.parametrize("side", [16, 31, 64])
def test_without_augmentation_the_network_trains_on_the_contracts_pixels(side):
    contract = InputContract(side=side, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    images = normalised(augment(photos(side), STILL, side, KEYS[:4]), contract)
    np.testing.assert_array_equal(images.numpy(), contract.normalise(photos(side).numpy()))
    assert torch.equal(erase(images.clone(), STILL, KEYS[:4]), images)
    batch = mix(images, torch.arange(4), STILL, KEYS[:4])
    assert batch.images is images and batch.shares.eq(1).all()
    turned = augment(photos(side), dataclasses.replace(STILL, rotation=5.0), side, KEYS[:4])
    assert (turned - floats(side)).abs().mean() > 0.5


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(8, 40), st.integers(8, 40), st.sampled_from(["none", "randaugment"]))
def test_any_shape_gives_legal_pixels(n, size, side, policy):
    recipe = dataclasses.replace(EVERYTHING, policy=policy, mixup=0.2, cutmix=1.0)
    images = augment(photos(size, n), recipe, side, KEYS[:n])
    assert images.shape == (n, 3, side, side) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 255
    batch = mix(erase(images, recipe, KEYS[:n]), torch.arange(n), recipe, KEYS[:n])
    assert batch.images.shape == images.shape and batch.images.isfinite().all()
    assert batch.shares.min() >= 0 and batch.shares.max() <= 1


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 8, 8, 3), torch.zeros(2, 3, 8, 8).byte(), torch.zeros(8, 8, 3).byte()]
)
def test_augment_refuses_what_are_no_pictures(wrong):
    with pytest.raises(BadInput, match="takes uint8"):
        augment(wrong, STILL, 8, KEYS[: len(wrong)])


@pytest.mark.parametrize("size", [16, 20], ids=["same side", "resampled"])
def test_half_of_the_pictures_are_mirrored(size):
    pixels = photos(size, n=400)
    views = augment(pixels, dataclasses.replace(STILL, flip=True), 16, KEYS)
    plain = augment(pixels, STILL, 16, KEYS)
    as_is = (views - plain).abs().amax((1, 2, 3)) < 1e-3
    mirrored = (views - plain.flip(3)).abs().amax((1, 2, 3)) < 1e-3
    assert (as_is ^ mirrored).all() and 160 < mirrored.sum() < 240  # 4 standard deviations


@pytest.mark.parametrize(("least", "aspect"), [(0.08, 0.75), (0.35, 0.5)])
def test_crops_are_distributed_as_those_of_inception(least, aspect):
    """Against torchvision's, which rounds to pixels."""
    width, height = random_boxes(uniforms(MANY, 2 * TRIES), (least, 1.0), aspect)
    assert max(width.max(), height.max()) <= 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blank = torch.zeros(1, 1000, 1000)
        drawn = [RandomResizedCrop.get_params(blank, [least, 1.0], [aspect, 1 / aspect]) for _ in range(20_000)]
    _, _, their_height, their_width = np.array(drawn).T / 1000
    for ours, theirs in ((width * height, their_height * their_width), (width / height, their_width / their_height)):
        assert kstest(ours, theirs).pvalue > 1e-3
    clamped = np.minimum(1, np.sqrt(least + (1 - least) * uniforms(MANY, 1)[:, 0] / aspect))
    assert kstest(clamped**2, their_height * their_width).pvalue < 1e-6  # it can fail


def test_views_stay_inside_the_picture_and_differ():
    ramp = torch.linspace(0, 250, 126).round().byte()[None, None, :, None].expand(64, 126, 126, 3)  # 2 a pixel
    views = augment(ramp, dataclasses.replace(STILL, min_area=0.25, aspect=0.5), 101, KEYS[:64])
    width = (views[:, 0, 0, -1] - views[:, 0, 0, 0]) / 252 * 101 / 100  # share of the picture
    assert width.min() > 0.3 and width.max() <= 1.0 + 1e-4 and width.std() > 0.05
    assert 0 <= views.min() < 5 and 245 < views.max() <= 250


def test_the_crop_is_what_a_plain_resize_of_the_box_gives():
    recipe = dataclasses.replace(STILL, min_area=0.3, aspect=0.6)
    pixels = photos(64)
    views = augment(pixels, recipe, 64, KEYS[:4])
    draws = uniforms(KEYS[:4], 2 * TRIES + 7)
    width, height = random_boxes(draws[:, : 2 * TRIES], (0.3, 1.0), 0.6)
    for i, view in enumerate(views):
        left, top = 64 * draws[i, 2 * TRIES] * (1 - width[i]), 64 * draws[i, 2 * TRIES + 1] * (1 - height[i])
        box = (left, top, left + 64 * width[i], top + 64 * height[i])
        size = (64, 64)
        data = (box[2] - box[0]) / 64, 0, box[0], 0, (box[3] - box[1]) / 64, box[1]
        crop = Image.fromarray(pixels[i].numpy()).transform(
            size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
        )
        inner = (slice(None), slice(2, -2), slice(2, -2))  # Pillow leaves the edge black
        assert (view - torch.from_numpy(np.array(crop)).permute(2, 0, 1))[inner].abs().max() <= 1.01


def test_a_much_larger_picture_is_averaged_not_skipped():
    stripes = (torch.arange(96) % 2 * 255).byte()[None, None, :, None].expand(1, 96, 96, 3)
    views = augment(stripes, STILL, 48, KEYS[:1])
    torch.testing.assert_close(views, torch.full_like(views, 127.5), atol=1e-3, rtol=0)


def test_jitter_and_colour():
    pixels = torch.zeros(400, 8, 8, 3, dtype=torch.uint8)
    pixels[..., :4, 0], pixels[..., 4:, 0] = 100, 140
    light = augment(pixels, dataclasses.replace(STILL, jitter=0.5), 8, KEYS)[:, 0]
    dark, bright = light[:, 0, 0], light[:, 0, -1]
    both = (bright - dark) / 40  # brightness x contrast
    assert 0.25 <= both.min() < 0.5 and 1.6 < both.max() <= 2.25 and abs(both.mean() - 1) < 0.1
    assert abs(dark.mean() - 100) < 8 and dark.std() > 15
    coloured = augment(pixels, dataclasses.replace(STILL, colour=0.5), 8, KEYS)[:, :, 0, 0]
    luma = 100 * 0.299
    saturation = (coloured[:, 0] - luma) / (100 - luma)
    assert 0.5 <= saturation.min() < 0.52 and 1.48 < saturation.max() <= 1.5 + 1e-4 and saturation.std() > 0.25
    assert (coloured[:, 1] - (luma - luma * saturation).clamp(min=0)).abs().max() < 0.01
    assert kstest(saturation.numpy(), "uniform", (0.5, 1.0)).pvalue > 1e-3


@settings(deadline=None)
@given(st.integers(8, 300), st.floats(0.01, 1), st.integers(1, 400))
def test_the_side_grows_until_three_quarters_of_the_run(side, first, steps):
    recipe = dataclasses.replace(STILL, side_from=first)
    sides = [side_at(recipe, side, step, steps) for step in range(steps)]
    assert (
        sides == sorted(sides) and all(s % 8 == 0 or s == side for s in sides) and 8 <= min(sides) <= max(sides) <= side
    )
    assert all(s == side for s in sides[math.ceil(0.75 * steps) :])
    assert abs(sides[0] - first * side) <= 8
    assert [side_at(STILL, side, step, steps) for step in range(steps)] == [side] * steps


def test_a_growing_side_reaches_the_network_or_is_refused():
    recipe = dataclasses.replace(STILL, side_from=0.5, batch=2)
    pictures = Pictures(photos(40, n=8).numpy(), np.zeros(8, np.int64))
    model = create_model("mobilenet_v1", width=0.1, num_classes=2)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[2]) if module.training else None)
    Training(model, pictures, InputContract(side=32), recipe, steps=8, seed=0).run()
    assert seen == [16, 16, 24, 24, 24, 32, 32, 32] and model.training
    rigid = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
    with pytest.raises(BadInput, match="begins at 16 pixels, which the network cannot take; set side_from=1"):
        Training(rigid, pictures, InputContract(side=32), recipe, steps=8, seed=0)
    assert rigid.training
    refuse_other_sides(rigid, STILL, 32, 8)


def pillow(name: str, picture: Image.Image, amount: float) -> Image.Image:
    """The operation as Pillow has it."""
    size, side = picture.size, picture.size[0]
    enhance = {"brightness": "Brightness", "colour": "Color", "contrast": "Contrast", "sharpness": "Sharpness"}
    maps = {
        "shear-x": (1, amount, 0, 0, 1, 0),
        "shear-y": (1, 0, 0, amount, 1, 0),
        "translate-x": (1, 0, amount * side, 0, 1, 0),
        "translate-y": (1, 0, 0, 0, 1, amount * side),
    }
    if name in maps:
        return picture.transform(size, Image.Transform.AFFINE, maps[name], Image.Resampling.BILINEAR)
    if name == "rotate":
        return picture.rotate(amount, Image.Resampling.BILINEAR)
    if name in enhance:
        return getattr(ImageEnhance, enhance[name])(picture).enhance(amount)
    if name in ("posterize", "solarize"):
        return getattr(ImageOps, name)(picture, math.ceil(amount))
    return picture if name == "identity" else getattr(ImageOps, name)(picture)


def operated(name: str, pictures: Tensor, level: float, sign: float) -> tuple[Tensor, float]:
    """The pictures after one operation, and its amount."""
    n, place = len(pictures), list(OPERATIONS).index(name)
    result, levels, signs = pictures.clone(), np.full(n, level, np.float32), np.full(n, sign, np.float32)
    operate(result, np.full(n, place), levels, signs)
    return result, float(OPERATIONS[name][1](levels, signs)[0])


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_pillows(name, sign, level):
    """Within a grey level. Where pixels move, but for the outermost half pixel, which we blend with what is outside."""
    side = 48
    ours, amount = operated(name, floats(side), level, sign)
    moved = name.partition("-")[0] in ("shear", "translate", "rotate")
    known = operated(name, torch.full((1, 1, side, side), 255.0), level, sign)[0][0, 0] > 254.99 if moved else ...
    for i in range(4):
        picture = Image.fromarray(photos(side)[i].numpy())
        theirs = torch.from_numpy(np.array(pillow(name, picture, amount)).astype(np.float32)).permute(2, 0, 1)
        assert (ours[i] - theirs)[:, known].abs().max() <= 1.01, i
    assert not moved or known.float().mean() > 0.4


def test_operations_differ_from_the_picture_and_from_each_other():
    results = {name: operated(name, floats(48), 0.8, 1.0)[0] for name in OPERATIONS}
    names = list(results)
    for i, a in enumerate(names):
        assert all((results[a] - results[b]).abs().max() > 1.01 for b in names[:i])


@pytest.mark.parametrize("name", ["shear-x", "shear-y", "translate-x", "translate-y", "rotate"])
def test_grey_comes_in_from_outside(name):
    white = torch.full((1, 3, 40, 40), 255.0)
    ours, _ = operated(name, white, 1.0, 1.0)
    assert abs(ours.max() - 255) < 1e-3 and abs(ours.min() - GREY) < 1e-3
    assert 0.04 < (ours < 192).float().mean() < 0.5


def test_flat_and_tiny_pictures_survive_every_operation():
    for picture in (torch.full((1, 3, 9, 9), 77.0), torch.full((1, 3, 1, 1), 3.0), floats(8)[:1, :, :2, :2]):
        for name in OPERATIONS:
            result, _ = operated(name, picture, 1.0, 1.0)
            assert result.isfinite().all() and result.min() >= 0 and result.max() <= 255
    for name in ("autocontrast", "equalize"):
        assert torch.equal(operated(name, torch.full((1, 3, 9, 9), 77.0), 1.0, 1.0)[0], torch.full((1, 3, 9, 9), 77.0))


THEIRS = {
    "Identity": "identity", "ShearX": "shear-x", "ShearY": "shear-y", "TranslateX": "translate-x",
    "TranslateY": "translate-y", "Rotate": "rotate", "Brightness": "brightness", "Color": "colour",
    "Contrast": "contrast", "Sharpness": "sharpness", "Posterize": "posterize", "Solarize": "solarize",
    "AutoContrast": "autocontrast", "Equalize": "equalize", "Invert": "invert",
}  # fmt: skip


@pytest.mark.parametrize("policy", AUTOAUGMENT)
def test_the_policies_are_the_papers(policy):
    """As torchvision has them."""
    kind = autoaugment.AutoAugmentPolicy(policy.removeprefix("autoaugment-"))
    theirs = autoaugment.AutoAugment(kind).policies
    assert AUTOAUGMENT[policy] == tuple(tuple((THEIRS[name], p, level) for name, p, level in row) for row in theirs)


@pytest.mark.parametrize("kind", ["AutoAugment", "RandAugment"])
def test_the_ranges_are_the_papers(kind):
    """As torchvision has them: AutoAugment's levels 0..9, RandAugment's 30 steps for our 0..10."""
    steps = 10 if kind == "AutoAugment" else 31
    augmenter = getattr(autoaugment, kind)()
    space = augmenter._augmentation_space(steps, (331, 331))
    if kind == "RandAugment":
        assert {THEIRS[name] for name in space} == set(RANDAUGMENT)
    for name, (magnitudes, signed) in space.items():
        amount = OPERATIONS[THEIRS[name]][1]
        level, one = np.linspace(0, 1, steps, dtype=np.float32), np.ones(steps, np.float32)
        either = not np.array_equal(amount(level, one), amount(level, -one))
        assert either == signed, name
        if magnitudes.ndim:
            about = 1 if name in ("Brightness", "Color", "Contrast", "Sharpness") else 0
            scale = 331 if "Translate" in name else 1
            np.testing.assert_allclose((amount(level, one) - about) * scale, magnitudes, atol=1e-3, err_msg=name)
    assert HIGHEST == 9


def recorded(monkeypatch, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a policy draws for MANY pictures: (steps, N) names, levels, signs."""
    calls: list[tuple] = []
    monkeypatch.setattr("swiftlet.train.policies.operate", lambda pictures, *drawn: calls.append(drawn))
    from swiftlet.train.policies import apply_policy

    apply_policy(torch.zeros(1), recipe, MANY)
    chosen, levels, signs = (np.stack(part) for part in zip(*calls, strict=True))
    return np.array(list(OPERATIONS))[chosen], levels, signs


def test_randaugment_draws_each_operation_as_often(monkeypatch):
    names, levels, signs = recorded(
        monkeypatch, dataclasses.replace(STILL, policy="randaugment", operations=3, magnitude=4.0)
    )
    assert names.shape == (3, len(MANY)) and np.unique(levels) == pytest.approx([0.4])
    counts = {name: (names == name).sum() for name in OPERATIONS}
    expected = names.size / 14
    assert (
        counts["invert"] == 0 and sum((n - expected) ** 2 / expected for name, n in counts.items() if n) < 35
    )  # 1 in 1000
    assert abs(signs.mean()) < 0.02
    assert abs((names[0] == names[1]).mean() - 1 / 14) < 0.01  # steps are drawn apart


def test_autoaugment_draws_rows_steps_and_signs(monkeypatch):
    names, levels, signs = recorded(monkeypatch, dataclasses.replace(STILL, policy="autoaugment-cifar10"))
    table = AUTOAUGMENT["autoaugment-cifar10"]
    for step in range(2):
        for name in ("equalize", "sharpness", "invert"):
            expected = np.mean([row[step][1] if row[step][0] == name else 0 for row in table])
            assert abs((names[step] == name).mean() - expected) < 0.01
    rotated = levels[0][names[0] == "rotate"]
    assert np.unique(rotated) == pytest.approx([2 / 9]) and abs(signs.mean()) < 0.02


def test_mixing_draws_shares_from_the_beta_distribution():
    images = torch.zeros(len(MANY), 1, 2, 2)
    labels = torch.zeros(len(MANY), dtype=torch.int64)
    for alpha in (0.2, 1.0, 3.0):
        shares = mix(images, labels, dataclasses.replace(STILL, mixup=alpha), MANY).shares
        for q in (0.01, 0.2, 0.5, 0.8, 0.99):
            assert abs((shares <= q).double().mean() - beta(alpha, alpha).cdf(q)) < 0.014  # 4 standard deviations


def test_mixup_blends_neighbours():
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6)
    batch = mix(images, labels, dataclasses.replace(STILL, mixup=1.0), KEYS[:6])
    assert batch.others.tolist() == [1, 0, 3, 2, 5, 4] and batch.labels is labels
    share = batch.shares.view(6, 1, 1, 1)
    torch.testing.assert_close(batch.images, share * images + (1 - share) * images[batch.others])
    assert batch.shares.std() > 0.05


def test_cutmix_pastes_a_box_of_the_neighbour():
    n, side = 400, 16
    images = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 1, side, side)
    batch = mix(images, torch.arange(n), dataclasses.replace(STILL, cutmix=1.0), KEYS)
    pasted = batch.images == batch.others.view(n, 1, 1, 1)
    assert (pasted | (batch.images == images)).all()
    torch.testing.assert_close(batch.shares, 1 - pasted.float().mean((1, 2, 3)))
    for mask in pasted[:, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None]) and (rows.int().diff().abs().sum() <= 2)
    assert 0.55 < batch.shares.mean() < 0.75  # 1/2 but for boxes that leave the picture
    assert pasted[:, 0, 0, 0].any() and pasted[:, 0, -1, -1].any() and pasted[:, 0, 8, 8].float().mean() > 0.3


def test_both_by_lot_and_an_odd_one_stays():
    n = 399
    images = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 1, 16, 16)
    batch = mix(images, torch.arange(n), dataclasses.replace(STILL, mixup=0.8, cutmix=1.0), KEYS[:n])
    blended = ((batch.images != images) & (batch.images != batch.others.view(n, 1, 1, 1))).any(3).any(2).any(1)
    assert 150 < blended.sum() < 240
    assert torch.equal(batch.images[-1], images[-1]) and batch.shares[-1] == 1 and batch.others[-1] == n - 1
    alone = mix(images[:1], torch.arange(1), dataclasses.replace(STILL, mixup=0.8), KEYS[:1])
    assert torch.equal(alone.images, images[:1]) and alone.shares.tolist() == [1.0]


def test_a_batch_cut_into_even_parts_is_mixed_alike():
    recipe = dataclasses.replace(STILL, mixup=0.3, cutmix=1.0)
    images, labels = torch.randn(32, 3, 8, 8), torch.randint(0, 9, (32,))
    batch = mix(images, labels, recipe, KEYS[:32])
    parts = [mix(images[i:j], labels[i:j], recipe, KEYS[i:j]) for i, j in ((0, 2), (2, 12), (12, 32))]
    for field in dataclasses.fields(Mixed):
        assert torch.equal(torch.cat([getattr(part, field.name) for part in parts]), getattr(batch, field.name))


def test_training_takes_the_same_pictures_whole_or_in_parts():
    recipe = dataclasses.replace(EVERYTHING, mixup=0.3, cutmix=1.0, side_from=0.5, batch=16)
    pictures = Pictures(photos(40, n=32).numpy(), np.arange(32) % 3)
    model = create_model("mobilenet_v1", width=0.1, num_classes=3)
    t = Training(model, pictures, InputContract(side=32), recipe, steps=40, seed=0)
    for t.step in (0, 20, 39):
        epoch, order = t._order()
        batch, parts = t._batch(epoch, order), [t._batch(epoch, part) for part in np.split(order, [2, 8])]
        assert batch.images.shape == (16, 3, side_at(recipe, 32, t.step, 40), side_at(recipe, 32, t.step, 40))
        for field in dataclasses.fields(Mixed):
            assert torch.equal(torch.cat([getattr(part, field.name) for part in parts]), getattr(batch, field.name))
        assert (batch.shares < 1).any() and (batch.images == 0).any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_with_mixed_targets(smoothing):
    logits, labels, others, shares = torch.randn(8, 5), torch.arange(8) % 5, torch.arange(8).flip(0) % 5, torch.rand(8)
    target = shares[:, None] * F.one_hot(labels, 5) + (1 - shares[:, None]) * F.one_hot(others, 5)
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing)
    torch.testing.assert_close(Mixed(logits, labels, others, shares).loss(logits, smoothing), expected)
    plain = Mixed(logits, labels, labels, torch.ones(8)).loss(logits, smoothing)
    torch.testing.assert_close(plain, F.cross_entropy(logits, labels, label_smoothing=smoothing))


def test_erased_boxes_are_distributed_as_torchvisions():
    n, side = 3000, 48
    images = torch.ones(n, 2, side, side)
    erased = erase(images, dataclasses.replace(STILL, erasing=0.25), MANY[:n]) == 0
    assert torch.equal(erased[:, 0], erased[:, 1]) and (images + erased == 1).all()
    boxes = erased[:, 0][erased.any(3).any(2).any(1)]
    assert abs(len(boxes) / n - 0.25) < 0.03
    height, width = boxes.any(2).sum(1).double(), boxes.any(1).sum(1).double()
    assert torch.equal(boxes.sum((1, 2)).double(), height * width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blank = torch.zeros(1, side, side)
        drawn = [RandomErasing.get_params(blank, (0.02, 0.33), (0.3, 1 / 0.3), [0.0])[2:4] for _ in range(4000)]
    their_height, their_width = np.array(drawn).T
    assert kstest(height * width, their_height * their_width).pvalue > 1e-3
    assert kstest(height / width, their_height / their_width).pvalue > 1e-3
    for size, along in ((width, 1), (height, 2)):
        start = boxes.any(along).double().argmax(1) / (side - size).clamp(min=1)
        assert abs(start.mean() - 0.5) < 0.05 and start.min() == 0 and start.max() == 1


def test_the_page_lists_the_operations_that_there_are():
    page = (Path(__file__).parent.parent / "docs" / "augmentation.md").read_text()
    table = page.partition("| operation |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == list(OPERATIONS)
    named = set(re.findall(r"`(\w+)`", page))
    assert {
        "min_area", "aspect", "side_from", "rotation", "flip", "jitter", "colour", "policy", "operations", "magnitude",
        "erasing", "mixup", "cutmix",
    } <= named  # fmt: skip


def test_our_grey_is_pillows_and_torchvisions_is_near():
    pixels = photos(32)
    ours, _ = operated("colour", floats(32), 1.0, -1.0)
    theirs = reference.adjust_saturation(pixels.permute(0, 3, 1, 2), 0.1).float()
    assert (ours - theirs).abs().max() <= 2
