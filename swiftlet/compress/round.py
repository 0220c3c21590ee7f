"""AdaRound: whether each weight goes up or down is learnt (Nagel et al. 2020, arXiv:2004.10568).

Rounding to nearest is best for a weight alone, not for the sum it is part of. Section 3 there: a number per weight,
squeezed into 0..1, says how far up it goes; it is trained until the layer gives what the float one gives, and pushed
to 0 or 1 on the way.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional as F

from swiftlet.compress.quantize import FakeQuantize
from swiftlet.compress.record import Record
from swiftlet.compress.walk import Step, side_by_side
from swiftlet.errors import BadInput, NothingToDo

STRETCH = (-0.1, 1.1)  # gamma and zeta of equation 23: 0 and 1 are reached, not only approached
BATCH = 32  # pictures a step
RATE = 0.02
PUSH = 0.001  # lambda of equation 21, what an undecided weight costs; 0.01 there, for thirty times as many steps
BETA = (20.0, 2.0)  # equation 24: at first only what is nearly decided is pushed
WARM = 0.2  # of the steps, in which nothing is pushed


def adaround(
    model: fx.GraphModule, integer: fx.GraphModule, batches: Iterable[Tensor], *, steps: int = 300, seed: int = 0
) -> tuple[fx.GraphModule, Record]:
    """Return a copy of `integer`, which quantize() made of `model`, with weights that are rounded up or down as learnt.

    Layer by layer, each on what the ones before it, already rounded anew, give for `batches` of (B, C, H, W) images
    (equation 25); what the grid behind a layer cuts off counts for nothing. Scales and biases stay. A layer keeps its
    rounding to nearest, and says so, if that leaves the smaller error on these images. Raises BadInput without images
    or if `integer` is not of `model`, NothingToDo if every layer keeps its rounding.
    """
    if steps < 1:
        raise BadInput(f"adaround: steps={steps} must be at least 1")
    new = copy.deepcopy(integer)
    modules = dict(new.named_modules())
    generator = torch.Generator().manual_seed(seed)
    changed, skipped = [], []
    for step in side_by_side(model, new, batches, "adaround"):
        nearest = step.layer.weight.detach().clone()
        low, high = _kept_range(step, modules)
        before = _error(step, low, high)
        learnt = _learn(step, low, high, steps, generator)
        step.layer.weight.data.copy_(learnt)
        if _error(step, low, high) < before:
            changed.append(step.node.target)
        else:
            step.layer.weight.data.copy_(nearest)
            skipped.append((step.node.target, "rounding to nearest leaves the smaller error"))
    if not changed:
        raise NothingToDo(f"adaround: rounding to nearest is best everywhere; skipped {skipped}")
    arguments: dict[str, object] = {"steps": steps, "seed": seed}
    return new, Record(name="adaround", arguments=arguments, changed=tuple(changed), skipped=tuple(skipped))


def _learn(step: Step, low: float, high: float, steps: int, generator: torch.Generator) -> Tensor:
    """Weights on the layer's grid, each next above or next below the original."""
    scale = step.layer.weight_scale.view(-1, *[1] * (step.layer.weight.ndim - 1))
    exact = step.original.weight.detach() / scale
    top = (step.layer.weight.detach() / scale).abs().max().round()  # 127, or less with fewer bits
    down = exact.floor().clamp(-top, top)
    gamma, zeta = STRETCH
    v = torch.logit(((exact - down).clamp(0, 1) - gamma) / (zeta - gamma)).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=RATE)
    fixed = {} if step.layer.bias is None else {"bias": step.layer.bias.detach()}
    for i in range(steps):
        x, wanted = _some(step, generator)
        up = (torch.sigmoid(v) * (zeta - gamma) + gamma).clamp(0, 1)
        given = functional_call(step.layer, {"weight": (down + up).clamp(-top, top) * scale, **fixed}, (x,))
        loss = (given.clamp(low, high) - wanted.clamp(low, high)).square().sum(1).mean()
        if i >= WARM * steps:
            left = 1 - (i / steps - WARM) / (1 - WARM)
            beta = BETA[1] + (BETA[0] - BETA[1]) * left
            loss = loss + PUSH * (1 - (2 * up - 1).abs().pow(beta)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learnt: Tensor = (down + (v.detach() >= 0)).clamp(-top, top) * scale
    return learnt


def _some(step: Step, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """BATCH pictures of one batch, and what the float network gives for them."""
    i = int(torch.randint(len(step.inputs), (), generator=generator))
    chosen = torch.randperm(len(step.inputs[i]), generator=generator)[:BATCH]
    return step.inputs[i][chosen], step.wanted[i][chosen]


@torch.no_grad()
def _error(step: Step, low: float, high: float) -> float:
    """Sum of squares over all batches."""
    pairs = zip(step.inputs, step.wanted, strict=True)
    return sum(F.mse_loss(step.layer(x).clamp(low, high), y.clamp(low, high), reduction="sum").item() for x, y in pairs)


def _kept_range(step: Step, modules: dict[str, nn.Module]) -> tuple[float, float]:
    """What the grid right behind the layer does not cut off; everything if something else stands there."""
    users = list(step.node.users)
    grid = modules.get(users[0].target) if len(users) == 1 and users[0].op == "call_module" else None
    if not isinstance(grid, FakeQuantize):
        return -torch.inf, torch.inf
    scale, zero_point = grid.scale.item(), grid.zero_point.item()
    return -zero_point * scale, (255 - zero_point) * scale
