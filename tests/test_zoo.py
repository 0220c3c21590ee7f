"""The zoo against the papers' figures, against torchvision and timm with the same weights, and one contract for all."""

import copy
import inspect
import warnings

import pytest
import torch
import torchvision_ops  # noqa: F401  (lets torchvision and timm import)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from swiftlet import zoo
from swiftlet.cost.count import count_model
from swiftlet.errors import BadInput
from swiftlet.layers.channels import make_divisible
from swiftlet.zoo import Card, card, create_model, list_models, register

# network, width, parameters, {side: multiply-adds}, counted and in agreement with what the papers and their authors'
# repositories print: V1 tables 6 and 7 (569 M, 418 M, 290 M, 186 M; 325 M, 149 M, 41 M), V2 table 4 (300 M, 585 M)
PUBLISHED = [
    ("mobilenet_v1", 1.0, 4_231_976, {224: 568_740_352, 192: 418_121_728, 160: 290_675_200, 128: 186_400_768}),
    ("mobilenet_v1", 0.75, 2_585_560, {224: 325_400_448, 192: 239_273_472, 160: 166_396_800, 128: 106_770_432}),
    ("mobilenet_v1", 0.5, 1_331_592, {224: 149_497_088, 192: 109_970_432, 160: 76_524_800, 128: 49_160_192}),
    ("mobilenet_v1", 0.25, 470_072, {224: 41_030_272, 192: 30_212_608, 160: 21_059_200, 128: 13_570_048}),
    ("mobilenet_v2", 0.35, 1_677_128, {224: 59_285_808, 192: 43_896_512, 160: 30_874_800, 128: 20_220_672}),
    ("mobilenet_v2", 0.5, 1_968_680, {224: 97_131_840, 192: 71_701_760, 160: 50_184_000, 128: 32_578_560}),
    ("mobilenet_v2", 0.75, 2_636_424, {224: 209_069_792, 192: 153_941_888, 160: 107_295_200, 128: 69_129_728}),
    ("mobilenet_v2", 1.0, 3_504_872, {224: 300_774_272, 192: 221_316_608, 160: 154_083_200, 128: 99_074_048}),
    ("mobilenet_v2", 1.4, 6_108_776, {224: 582_195_824}),
]


def on_meta(name: str, **arguments: object) -> nn.Module:
    """Shapes alone: nothing is allocated, nothing is drawn."""
    with torch.device("meta"):
        return create_model(name, **arguments)


@pytest.mark.parametrize(("name", "width", "params", "macs"), PUBLISHED, ids=lambda value: str(value)[:14])
def test_published_widths_and_sides(name, width, params, macs):
    model = on_meta(name, width=width)
    for side, expected in macs.items():
        cost = count_model(model, (3, side, side)).cost
        assert (cost.params, cost.macs) == (params, expected), side


@pytest.mark.parametrize("name", list_models())
def test_cards_are_recounted(name):
    facts = card(name)
    cost = count_model(on_meta(name), facts.input).cost
    assert (cost.params, cost.macs) == (facts.params, facts.macs)
    assert any((name, 1.0, facts.params) == row[:3] and facts.macs in row[3].values() for row in PUBLISHED)


def torchvision_v2(width: float) -> nn.Module:
    import torchvision

    return torchvision.models.mobilenet_v2(width_mult=width, weights=None)


def timm_v1(width: float) -> nn.Module:
    import timm

    return timm.create_model({1.0: "mobilenetv1_100", 1.25: "mobilenetv1_125"}[width], act_layer="relu")  # theirs: 6


def give_same_random_state(ours: nn.Module, theirs: nn.Module) -> None:
    """Random weights and random BatchNorm statistics for both, tensor by tensor in the order of definition."""
    generator = torch.Generator().manual_seed(0)
    pairs = zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True)
    for (name, mine), (other, copied) in pairs:
        assert mine.shape == copied.shape, f"{name} {tuple(mine.shape)}, {other} {tuple(copied.shape)}"
        if not mine.is_floating_point():
            continue
        if mine.ndim == 1 and name.endswith(("weight", "running_var")):
            mine.uniform_(0.5, 1.5, generator=generator)
        else:
            fan_in = mine[0].numel() if mine.ndim > 1 else 25
            mine.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        copied.copy_(mine)


@pytest.mark.parametrize(
    ("name", "width", "reference"),
    [
        ("mobilenet_v2", 0.35, torchvision_v2),
        ("mobilenet_v2", 1.0, torchvision_v2),
        ("mobilenet_v2", 1.4, torchvision_v2),
        ("mobilenet_v1", 1.0, timm_v1),
        ("mobilenet_v1", 1.25, timm_v1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_equal_to_public_implementations(name, width, reference):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = reference(width).eval()
    ours = create_model(name, width=width).eval()
    give_same_random_state(ours, theirs)
    for height, side in ((224, 224), (97, 75)):
        images = torch.randn(2, 3, height, side, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            mine, other = ours(images), theirs(images)
        assert (mine[0] - mine[1]).abs().max() > 0.1  # the signal lives to the end
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [0.37, 1.0], ids=lambda width: f"width {width}")
@pytest.mark.parametrize("name", list_models())
def test_every_network_keeps_the_contract(name, width):
    model = create_model(name, num_classes=7, width=width)
    assert model.training
    x = torch.randn(2, 3, 96, 64)  # not square, not the card's size
    model(x).square().sum().backward()
    dead = [path for path, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead, f"no gradient reaches {dead}"
    with torch.inference_mode():
        y = model.eval()(x)
        assert y.shape == (2, 7)
        torch.testing.assert_close(model(x[:1]), y[:1], atol=1e-5, rtol=1e-4)  # images do not see each other
        torch.testing.assert_close(fx.symbolic_trace(model)(x), y)
    grey = create_model(name, width=0.25, num_classes=3, in_channels=1).eval()
    assert grey(torch.zeros(1, 1, 40, 33)).shape == (1, 3)


@pytest.mark.parametrize("name", list_models())
def test_every_network_has_the_dials_and_refuses_the_rest(name):
    parameters = inspect.signature(getattr(zoo, name)).parameters
    assert list(parameters) == ["width", "num_classes", "in_channels", "dropout", "stem_stride"]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
    with pytest.raises(BadInput, match=r"no argument 'widht'; it has width, num_classes, "):
        create_model(name, widht=0.5)
    for wrong in ({"width": 0}, {"width": -1.0}, {"width": float("nan")}, {"width": float("inf")}, {"stem_stride": 3}):
        with pytest.raises(BadInput, match=name):
            create_model(name, **wrong)


@pytest.mark.parametrize("name", list_models())
def test_stem_stride_halves_the_total_stride(name):
    for stride, total in ((2, 32), (1, 16)):
        layers = count_model(on_meta(name, stem_stride=stride), (3, 64, 64)).layers
        heights = [layer.output[2] for layer in layers if layer.op == "convolution"]
        assert heights[0] == 64 // stride and heights[-1] == 64 // total == min(heights)


def test_v1_has_28_weighted_layers_and_v2_ten_residual_sums():
    weighted = [m for m in on_meta("mobilenet_v1").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 28
    ops = [layer.op for layer in count_model(on_meta("mobilenet_v2")).layers]
    assert ops.count("add") == 10 and ops.count("convolution") == 1 + 17 * 3 - 1 + 1


def test_same_seed_same_weights_and_dropout_is_an_argument():
    def build(seed: int, **arguments: object) -> nn.Module:
        torch.manual_seed(seed)
        return create_model("mobilenet_v2", width=0.1, num_classes=2, **arguments)

    with torch.random.fork_rng(devices=[]):
        one, same, other = (build(seed).state_dict() for seed in (5, 5, 6))
        calm = build(5, dropout=0.0).train()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["0.0.weight"], other["0.0.weight"])
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(copy.deepcopy(calm)(x), copy.deepcopy(calm)(x))


@settings(deadline=None)
@given(st.floats(0.01, 5000), st.sampled_from((1, 2, 4, 8, 16)))
def test_make_divisible(channels, divisor):
    rounded = make_divisible(channels, divisor)
    assert rounded % divisor == 0 and rounded >= divisor
    assert rounded >= 0.9 * channels
    assert abs(rounded - channels) <= divisor
    assert make_divisible(rounded, divisor) == rounded
    nearest = max(divisor, round(channels / divisor) * divisor)
    assert abs(rounded - channels) <= abs(nearest - channels) + 1e-6 or nearest < 0.9 * channels


def test_make_divisible_as_in_the_authors_code():
    # 0.9: 11.2 -> 8 would lose 29 %, 33.6 -> 32 loses 5 %; ties go up
    assert [make_divisible(c) for c in (1, 11.2, 12, 33.6, 44.8, 134.4, 1792)] == [8, 16, 16, 32, 48, 136, 1792]


def test_list_models_and_misspelt_names():
    assert list_models() == sorted(list_models()) and {"mobilenet_v1", "mobilenet_v2"} <= set(list_models())
    assert list_models("*_v2") == ["mobilenet_v2"] and list_models("squeeze*") == []
    with pytest.raises(BadInput, match=r"'mobilnet_v2'; did you mean 'mobilenet_v2'\?"):
        create_model("mobilnet_v2")
    with pytest.raises(BadInput, match="there are mobilenet_v1, mobilenet_v2"):
        card("zzz")


def test_a_name_is_registered_once():
    def mobilenet_v2() -> nn.Module:
        return nn.Identity()

    before = card("mobilenet_v2")
    with pytest.raises(BadInput, match="already has a network called 'mobilenet_v2'"):
        register(Card(paper="", input=(3, 8, 8), params=0, macs=0))(mobilenet_v2)
    assert card("mobilenet_v2") is before
