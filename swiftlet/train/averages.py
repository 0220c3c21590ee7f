"""The averaged copy of a network that is being trained, which is what gets evaluated and delivered."""

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of parameters and BatchNorm statistics over about `horizon` steps.

    It follows faster in the beginning, so that it forgets the random start.
    """

    def __init__(self, model: nn.Module, horizon: float) -> None:
        self.horizon = max(1.0, horizon)
        self.state = {name: t.detach().clone() for name, t in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        """After step 0, 1, ... . Counters are not averaged; masks of pruned weights are those of the model."""
        keep = min(1 - 1 / self.horizon, (1 + step) / (10 + step))
        state = model.state_dict()
        floats = [name for name, t in state.items() if t.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in floats], [state[name] for name in floats], 1 - keep)
        for name, t in state.items():
            if t.dtype == torch.bool:
                self.state[name].copy_(t)

    def tensors(self) -> dict[str, Tensor]:
        """A copy, as a state dict."""
        return {name: t.clone() for name, t in self.state.items()}
