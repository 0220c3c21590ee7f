"""The Ghost module: few channels are convolved, the rest is made from them (Han et al. 2020, arXiv:1911.11907)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from swiftlet.errors import BadInput
from swiftlet.layers.conv_bn import conv_bn


class GhostModule(nn.Module):
    """A convolution to m = ceil(c_out / ratio) channels, and ratio - 1 cheap k x k filters on each of them (figure 2b).

    (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)). `primary_kernel`, `ratio` and `kernel` are the
    paper's k, s and d; kernels are odd; with ratio 1 nothing cheap is left. BatchNorm and `act` follow both parts.
    MACs per image: H' * W' * m * (c_in * primary_kernel^2 + (ratio - 1) * kernel^2).

    Of `cheap` filters only "depthwise" ones are learned. "shift" copies each channel one position further, "linear"
    takes the cosine transform's basis functions, from a mean to the finest checks; both take their filters in turn.
    They are stored and multiplied like learned ones: parameters, bytes and MACs are those of "depthwise".
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        primary_kernel: int = 1,
        ratio: int = 2,
        kernel: int = 3,
        cheap: Literal["depthwise", "shift", "linear"] = "depthwise",
        stride: int = 1,
        act: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        if cheap == "shift" and kernel == 1:
            raise BadInput("GhostModule: cheap='shift' has nowhere to go with kernel=1; give 3 or more")
        c_primary = math.ceil(c_out / ratio)
        c_cheap = c_primary * (ratio - 1)
        self.primary = conv_bn(c_in, c_primary, primary_kernel, stride=stride, act=act)
        self.cheap = conv_bn(c_primary, c_cheap, kernel, groups=c_primary, act=act) if c_primary < c_out else None
        self.c_out = c_out
        self.cut = c_primary + c_cheap > c_out  # the ratio does not divide c_out: some channels are made in vain
        if self.cheap is not None and cheap != "depthwise":
            weight = self.cheap.get_parameter("0.weight").requires_grad_(False)  # (c_cheap, 1, k, k)
            bank = (_shifts if cheap == "shift" else _cosines)(kernel)
            weight.copy_(bank[torch.arange(len(weight)) % len(bank)].unsqueeze(1))

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.primary(x)
        if self.cheap is not None:
            y = torch.cat([y, self.cheap(y)], 1)
        return y[:, : self.c_out] if self.cut else y


def _shifts(k: int) -> Tensor:
    """(k^2 - 1, k, k): a one at each place but the middle."""
    single, middle = torch.eye(k * k), k * k // 2
    return torch.cat([single[:middle], single[middle + 1 :]]).view(-1, k, k)


def _cosines(k: int) -> Tensor:
    """(k^2, k, k): products of a vertical and a horizontal wave, all of length 1."""
    waves = torch.cos(torch.outer(torch.arange(k), (torch.arange(k) + 0.5) * math.pi / k))  # (frequency, place)
    waves = nn.functional.normalize(waves, dim=1)
    return torch.einsum("ux,vy->uvxy", waves, waves).reshape(k * k, k, k)
