"""The inverted residual: narrow, wide, narrow (Sandler et al. 2018, arXiv:1801.04381, figure 3b)."""

from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn


class InvertedResidual(nn.Module):
    """1x1 expand, k x k depthwise, [SE], 1x1 linear projection; + the input where both shapes agree.

    (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)). `c_mid` is the expanded width; where it equals
    c_in there is no expanding convolution. `act` follows the expansion and the depthwise convolution, `se` (a module
    on c_mid channels) comes after the latter. `residual=False` leaves the sum out.
    MACs per image: H * W * c_in * c_mid + H' * W' * c_mid * (k^2 + c_out), and those of `se`.
    """

    def __init__(
        self,
        c_in: int,
        c_mid: int,
        c_out: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        act: type[nn.Module] = nn.ReLU6,
        se: nn.Module | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.expand = conv_bn(c_in, c_mid, 1, act=act) if c_mid != c_in else nn.Identity()
        self.depthwise = conv_bn(c_mid, c_mid, kernel, stride=stride, groups=c_mid, act=act)
        self.se = se or nn.Identity()
        self.project = conv_bn(c_mid, c_out, 1, act=None)
        self.residual = residual and stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.project(self.se(self.depthwise(self.expand(x))))
        return x + y if self.residual else y
