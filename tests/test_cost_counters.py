"""The whole zoo against two counters that others wrote; every difference is an equation in integers.

docs/counting.md, "What others miss", says in words what the equations say here.
"""

import re
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from swiftlet.cost.count import Count, count_model
from swiftlet.zoo import card, create_model, list_models

with warnings.catch_warnings():  # it scripts and traces with torch.jit, which PyTorch calls deprecated
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis

# The smallest side that all of a network's strides allow, up to 64: tracing runs the network.
SIDES = {"alexnet": 96, "vgg16": 64, "inception_v3": 96, "googlenet": 64}

# What fvcore has no rule for and leaves out, with a warning: element-wise here, or pooling, or a copy that is free.
LEFT_OUT = {
    "add", "avg_pool2d", "avg_pool3d", "channel_shuffle", "div", "hardsigmoid", "hardswish", "hardtanh", "max_pool2d",
    "mul", "pad", "pow", "sigmoid",
}  # fmt: skip

PAGE = (Path(__file__).parent.parent / "docs/counting.md").read_text().partition("<!-- counters -->")[2]
PRINTED = {row[0]: tuple(map(int, row[1:])) for row in re.findall(r"\| `(\w+)`" + r" \| (\d+)" * 5, PAGE)}


def prepared(name: str) -> tuple[torch.nn.Module, torch.Tensor, Count]:
    channels, side, _ = card(name).input
    shape = (channels, *[min(side, SIDES.get(name, 64))] * 2)
    with torch.device("meta"):
        model = create_model(name).eval()
    return model, torch.empty(1, *shape, device="meta"), count_model(model, shape)


def elementwise(found: Count, *ops: str) -> int:
    return sum(layer.elementwise for layer in found.layers if layer.op in ops)


@pytest.mark.parametrize("name", list_models())
def test_the_zoo_by_two_others(name):
    model, image, found = prepared(name)
    with FlopCounterMode(display=False) as torchs, torch.no_grad():
        model(image)
    assert torchs.get_total_flops() == 2 * found.cost.macs  # it says FLOPs and means both halves of a multiply-add

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(model.to_empty(device="cpu"), torch.zeros(image.shape))
        analysis = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        theirs = Counter(analysis.by_operator())
        left_out = {op.removeprefix("aten::") for op in analysis.unsupported_ops()}
    norms, pools = theirs.pop("batch_norm", 0), theirs.pop("adaptive_avg_pool2d", 0)
    assert sum(theirs.values()) == found.cost.macs  # it says flops and means multiply-adds
    assert theirs.keys() <= {"conv", "linear"}
    # BatchNorm: two per element, there among the MACs; pooling: elements that it reads there, that it writes here
    assert norms == elementwise(found, "native_batch_norm")
    assert pools == sum(n.read_bytes // 4 for n in found.layers if n.op in ("mean", "_adaptive_avg_pool2d"))
    assert left_out <= LEFT_OUT
    printed = (found.cost.macs, torchs.get_total_flops(), analysis.total(), norms, pools)
    assert PRINTED.get(name, printed) == printed


def test_the_page_has_its_table():
    assert len(PRINTED) == 4 and PRINTED.keys() <= set(list_models())


def test_the_comparison_can_fail():
    """A squeeze-and-excitation written with plain products is MACs to nobody, and nobody's zero is silent here."""
    model, image, found = prepared("mobilenet_v3_small")
    gates = [layer for layer in found.layers if layer.op == "mul"]
    assert gates and all(layer.macs == 0 and layer.elementwise > 0 for layer in gates)
    model.classifier = torch.nn.Identity()
    with FlopCounterMode(display=False) as torchs, torch.no_grad():
        model(image)
    assert torchs.get_total_flops() == 2 * (found.cost.macs - 1024 * 1000)
