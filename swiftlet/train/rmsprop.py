"""RMSprop as TensorFlow 1 wrote it, in which the MobileNet, MnasNet and Inception papers trained."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class RMSpropTF(torch.optim.Optimizer):
    """square = decay square + (1 - decay) gradient^2, from 1;  buffer = momentum buffer + lr gradient / sqrt(square +
    epsilon), from 0;  parameter -= buffer.

    torch.optim.RMSprop differs in three ways that matter at the papers' rates: its squares start at 0, so that the
    first steps are long; its epsilon stands outside the root; and its buffer holds no learning rate, so that a change
    of the rate acts on past gradients too. Weight decay is added to the gradient, as an L2 penalty in the loss is.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        square_decay: float,
        epsilon: float,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "square_decay": square_decay, "epsilon": epsilon,
            "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step for every parameter that has a gradient. Returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {"square": torch.ones_like(p), "momentum_buffer": torch.zeros_like(p)}
        squares = [self.state[p]["square"] for p in parameters]
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        gradients: list[Tensor] | tuple[Tensor, ...] = [p.grad for p in parameters if p.grad is not None]
        if group["weight_decay"]:
            gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        torch._foreach_mul_(squares, group["square_decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["square_decay"])
        roots = torch._foreach_add(squares, group["epsilon"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_addcdiv_(buffers, gradients, roots, value=group["lr"])
        torch._foreach_sub_(parameters, buffers)
