"""Squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507)."""

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate that is computed from its spatial mean.

    (B, C, H, W) -> (B, C, H, W). MACs per image: 2 * C * hidden. `hidden` is a number of channels, not a ratio: papers
    disagree on what the ratio is taken of (MobileNet V3: the expanded width; MnasNet: the block's input), so each
    network does that arithmetic where the reader sees it.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        act: type[nn.Module] = nn.ReLU,
        gate: type[nn.Module] = nn.Hardsigmoid,
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.act = act()
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        scale: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))  # (B, C, 1, 1)
        return x * scale
