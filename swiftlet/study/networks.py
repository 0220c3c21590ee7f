"""Random networks: every family of the zoo at random width, depth, options and side, and stacks of random blocks.

Latency is predicted from tables that some of them filled, and judged on others. Network i is always the same one.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args, get_origin

import numpy as np
import torch
from torch import Tensor, nn

from swiftlet.cost.count import count_model
from swiftlet.errors import BadInput
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.ghost import GhostModule
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo import card, create_model, list_models, parameters_of
from swiftlet.zoo.mobiledets import FullConvolution
from swiftlet.zoo.resnet import Residual, basic, bottleneck
from swiftlet.zoo.shufflenet_v1 import Unit
from swiftlet.zoo.squeezenet import Fire

BLOCKS = "random blocks"
BLOCK_SHARE = 12  # turns of the random blocks against one of each family
MAX_MACS, MAX_PARAMS = 1_000_000_000, 12_000_000  # larger ones would take the time of many
SIDES = (32, 256)
WIDTHS = (0.2, 1.6)
DROP = 0.15  # of the blocks that keep their input's shape, this share is left out

Rng = np.random.Generator


class Network(NamedTuple):
    """A network with random weights in eval mode, and the side of its RGB input."""

    family: str
    module: nn.Module
    side: int


def families() -> list[str]:
    """In turn: network i belongs to families()[i % len(families())]."""
    return [*list_models(), *[BLOCKS] * BLOCK_SHARE]


def random_network(i: int) -> Network:
    """The i-th random network, of at most a billion MACs."""
    rng = np.random.default_rng(i)
    family = families()[i % len(families())]
    for _ in range(1000):
        side = 28 if family.startswith("lenet") else _between(rng, *SIDES)
        seed = int(rng.integers(2**31))
        build = _blocks(seed) if family == BLOCKS else _member(family, rng)
        try:
            with torch.device("meta"):
                left_out = _fits(build(), side, np.random.default_rng(seed))
        except BadInput:  # options that exclude each other, a side too small for the strides, a network too large
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Network(family, _without(build(), left_out).eval(), side)
    raise BadInput(f"no network {i} of the family {family} is small enough")


def _fits(model: nn.Module, side: int, rng: Rng) -> list[str]:
    """The blocks to leave out of a network on the meta device. Raises BadInput if it is too large then."""
    if sum(p.numel() for p in model.parameters()) > MAX_PARAMS:
        raise BadInput("too many parameters")
    left_out = [name for name in _same_shape(model, side) if rng.random() < DROP]
    if (count_model(_without(model, left_out), (3, side, side)).cost.macs or 0) > MAX_MACS:
        raise BadInput("too many MACs")
    return left_out


def _between(rng: Rng, low: float, high: float) -> int:
    """A whole number, all orders of magnitude alike."""
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


# --- the zoo ------------------------------------------------------------------------------------------------------


def _member(family: str, rng: Rng) -> Callable[[], nn.Module]:
    arguments: dict[str, Any] = {"num_classes": int(rng.choice([10, 100, 1000]))}
    for name, parameter in parameters_of(family).items():
        kind = parameter.annotation
        if name == "width":
            arguments[name] = round(float(np.exp(rng.uniform(*np.log(WIDTHS)))), 3)
        elif get_origin(kind) is Literal:
            options = get_args(kind)
            arguments[name] = options[int(rng.integers(len(options)))]
        elif kind is bool:
            arguments[name] = bool(rng.random() < 0.3)
        elif name in ("ratio", "branches"):
            arguments[name] = int(rng.integers(2, 5))
        elif name == "expansion":
            arguments[name] = float(rng.integers(2, 9))
    if card(family).input[0] != 3:
        arguments["in_channels"] = 3
    return lambda: create_model(family, **arguments)


def _same_shape(model: nn.Module, side: int) -> list[str]:
    """Paths of the blocks in sequence, of two layers or more, that give as many values as they get."""
    found: list[str] = []

    def watch(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and inputs[0].shape == output.shape:
                found.append(path)

        return hook

    hooks = [
        child.register_forward_hook(watch(f"{path}.{name}".lstrip(".")))
        for path, parent in model.named_modules()
        if isinstance(parent, nn.Sequential)
        for name, child in parent.named_children()
        if len(list(child.children())) > 1
    ]
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, side, side))
    except RuntimeError as error:
        raise BadInput(f"cannot run at {side} pixels") from error
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _without(model: nn.Module, left_out: list[str]) -> nn.Module:
    """In place: nothing in the place of these blocks."""
    for path in left_out:
        parent, _, name = path.rpartition(".")
        if path in dict(model.named_modules()):  # it may have stood inside another one that is gone
            model.get_submodule(parent).register_module(name, nn.Identity())
    return model


# --- blocks -------------------------------------------------------------------------------------------------------


def _blocks(seed: int) -> Callable[[], nn.Module]:
    """A first layer, one to four stages of one to five random blocks, and a classifier."""

    def build() -> nn.Module:
        rng = np.random.default_rng(seed)
        c = _between(rng, 8, 64)
        layers: list[nn.Module] = [conv_bn(3, c, _kernel(rng), stride=int(rng.integers(1, 3)))]
        for _ in range(int(rng.integers(1, 5))):
            block = list(BUILDERS)[int(rng.integers(len(BUILDERS)))]
            for depth in range(int(rng.integers(1, 6))):
                if rng.random() < 0.3:  # now and then another kind in between
                    block = list(BUILDERS)[int(rng.integers(len(BUILDERS)))]
                stride = 2 if depth == 0 else 1
                c_out = c + _between(rng, 4, max(8, c)) if stride == 2 or rng.random() < 0.2 else c
                made, c = BUILDERS[block](c, c_out, stride, rng)
                layers.append(made)
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, int(rng.choice([10, 100, 1000])))]
        return nn.Sequential(*layers)

    return build


Made = tuple[nn.Module, int]  # a block and the channels that it gives


def _kernel(rng: Rng) -> int:
    return int(rng.choice([3, 5, 7], p=[0.6, 0.25, 0.15]))


def _act(rng: Rng) -> type[nn.Module]:
    acts: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6, nn.Hardswish)
    return acts[int(rng.choice(3, p=[0.5, 0.25, 0.25]))]


def _plain(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    return conv_bn(c, c_out, int(rng.choice([1, 3, 5, 7])), stride=stride, act=_act(rng)), c_out


def _separable(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    depthwise = conv_bn(c, c, _kernel(rng), stride=stride, groups=c, act=_act(rng))
    return nn.Sequential(depthwise, conv_bn(c, c_out, 1, act=_act(rng))), c_out


def _inverted(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    c_mid = c * int(rng.integers(2, 7))
    se = SqueezeExcite(c_mid, max(4, c_mid // 8)) if rng.random() < 0.4 else None
    return InvertedResidual(c, c_mid, c_out, _kernel(rng), stride=stride, act=_act(rng), se=se), c_out


def _basic(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    return Residual(basic(c, c_out, c_out, stride), c, c_out, stride), c_out


def _bottleneck(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    groups = int(rng.choice([1, 1, 2, 4]))
    c_mid = max(1, c_out // 4 // groups) * groups
    return Residual(bottleneck(c, c_mid, c_out, stride, groups=groups), c, c_out, stride), c_out


def _shuffle(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    groups = int(rng.choice([2, 3, 4]))
    mixed = -(-c // groups) * groups
    first = conv_bn(c, mixed, 1)
    c_out = mixed if stride == 1 else 2 * mixed
    unit = Unit(mixed, c_out, stride, groups, first=False, shuffle=True, se=bool(rng.random() < 0.2))
    return nn.Sequential(first, unit) if mixed != c else unit, c_out


def _ghost(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    ratio = int(rng.integers(2, 4))
    return GhostModule(c, c_out, ratio=ratio, kernel=_kernel(rng), stride=stride, act=_act(rng)), c_out


def _fire(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    half = max(1, c_out // 2)
    fire = Fire(c, max(1, c_out // 8), half, half, "none")
    return (nn.Sequential(nn.MaxPool2d(3, 2, padding=1), fire) if stride == 2 else fire), 2 * half


def _fused(c: int, c_out: int, stride: int, rng: Rng) -> Made:
    c_mid = c * int(rng.integers(2, 5))
    return FullConvolution(c, None, c_mid, c_out, _kernel(rng), stride, stride == 1 and c == c_out), c_out


BUILDERS: dict[str, Callable[[int, int, int, Rng], Made]] = {
    "plain": _plain,
    "separable": _separable,
    "inverted residual": _inverted,
    "basic": _basic,
    "bottleneck": _bottleneck,
    "shuffle": _shuffle,
    "ghost": _ghost,
    "fire": _fire,
    "fused": _fused,
}
