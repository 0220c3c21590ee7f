"""Residual blocks that are dropped: which can be, and that the rest computes what it did."""

import copy

import pytest
import torch
from torch import nn

from swiftlet.compress.blocks import drop_blocks, least_blocks, rebuild, residual_blocks
from swiftlet.compress.record import Record
from swiftlet.errors import BadInput, NothingToDo
from swiftlet.zoo import create_model

BLOCKS = {"mobilenet_v2": 10, "resnet18": 5, "mobilenet_v1": 0, "mobilenet_v3_small": 7}  # without a change of shape


@pytest.mark.parametrize(("name", "count"), BLOCKS.items())
def test_the_blocks_whose_shapes_stay_can_go_one_and_all(name: str, count: int) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=5, width=0.35).eval()
    before = copy.deepcopy(model.state_dict())
    blocks = residual_blocks(model)
    assert len(blocks) == count
    if not blocks:
        with pytest.raises(NothingToDo):
            drop_blocks(model, blocks)
        return
    image = torch.randn(2, 3, 64, 64)
    for names in (blocks[:1], blocks[-1:], blocks):
        smaller, record = drop_blocks(model, names)
        assert smaller(image).shape == (2, 5) and set(record.changed) <= {path for path, _ in model.named_modules()}
        paths = {path for path, _ in smaller.named_modules()}
        assert record.changed and not paths & set(record.changed)
        fresh = rebuild(
            create_model(name, num_classes=5, width=0.35), Record(name=record.name, arguments=record.arguments)
        )
        fresh.load_state_dict(smaller.state_dict(), strict=True)
        torch.testing.assert_close(fresh.eval()(image), smaller.eval()(image))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_block_that_adds_nothing_can_go_without_a_trace() -> None:
    torch.manual_seed(0)
    model = create_model("resnet18", num_classes=5, width=0.125).eval()
    image = torch.randn(2, 3, 64, 64)
    blocks = residual_blocks(model)
    silent = blocks[2]
    changed = drop_blocks(model, [silent])[1].changed
    norms = [m for p, m in model.named_modules() if p in changed and isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        norms[-1].weight.zero_()
        norms[-1].bias.zero_()
    torch.testing.assert_close(drop_blocks(model, [silent])[0](image), model(image))
    expected = model(image)
    loss = lambda network: float((network(image) - expected).detach().square().sum())  # noqa: E731
    alike = dict.fromkeys(blocks, 1.0)
    order, losses = zip(*least_blocks(model, loss, alike), strict=True)
    assert order[0] == silent and sorted(order) == sorted(blocks)
    assert losses == tuple(loss(drop_blocks(model, order[: i + 1])[0]) for i in range(len(order)))
    other = next(name for name in blocks if name != silent)
    costly = least_blocks(model, loss, alike | {other: 1e9})
    assert [next(costly)[0], next(costly)[0]] == [silent, other]  # nothing is better than much for little


class Twice(nn.Module):
    """Two sums of which neither can go: the branch sees more than what it is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in "abc")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        return y + self.b(self.c(x) + y)


def test_what_is_no_residual_block_stays() -> None:
    assert residual_blocks(Twice()) == ()
    with pytest.raises(BadInput, match="'add' is no residual block"):
        drop_blocks(Twice(), ["add"])
    with pytest.raises(BadInput, match="needs 'blocks'"):
        rebuild(Twice(), Record(name="drop_blocks"))
