"""Proof that a network of ours is the public one: the same weights in both, the same outputs and gradients out."""

import warnings
from collections.abc import Callable

import torch
import torchvision_ops  # noqa: F401  (lets torchvision and timm import)
from torch import Tensor, nn

from swiftlet import create_model, load_weights


def quietly(build: Callable[[], nn.Module]) -> nn.Module:
    """timm and torchvision warn about things that are none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build()


def randomise(model: nn.Module) -> nn.Module:
    """Random weights *and* BatchNorm statistics, such that the signal neither dies nor explodes on its way."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.normal_(0, 0.2, generator=generator)
    return model


def check_twin(
    name: str,
    arguments: dict[str, object],
    reference: Callable[[], nn.Module],
    layout: str,
    *,
    sides: tuple[tuple[int, int], ...] = ((224, 224), (97, 75)),
    train_side: tuple[int, int] = (75, 64),
    channels: int = 3,
) -> None:
    """Outputs agree to 1e-5 relative in eval mode at each (height, width) of `sides`, gradients of every parameter to
    1e-4 in train mode at `train_side`. Dropout is off in both."""
    theirs = randomise(quietly(reference))
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ours = create_model(name, dropout=0.0, **arguments)
    load_weights(ours, theirs.state_dict(), layout)
    generator = torch.Generator().manual_seed(1)
    for height, width in sides:
        images = torch.randn(2, channels, height, width, generator=generator)
        with torch.inference_mode():
            mine, other = ours.eval()(images), logits(theirs.eval()(images))
        scale = other.abs().max().item()
        assert (other[0] - other[1]).abs().max() > 1e-3 * scale  # the signal lives to the end
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5 * scale)
    images = torch.randn(4, channels, *train_side, generator=generator, dtype=torch.float64)
    backward(ours.double().train(), images)
    backward(theirs.double().train(), images)
    gradients = {path: tensor.clone() for path, tensor in theirs.state_dict().items()}
    gradients |= {path: p.grad for path, p in theirs.named_parameters() if p.grad is not None}
    expected = load_weights(create_model(name, dropout=0.0, **arguments).double(), gradients, layout)
    noise = 1e-12 * max(p.abs().max().item() for p in expected.parameters())  # where the true gradient is 0
    for (path, mine), other in zip(ours.named_parameters(), expected.parameters(), strict=True):
        assert mine.grad is not None, path
        torch.testing.assert_close(
            mine.grad, other.data, rtol=1e-4, atol=max(noise, 1e-4 * other.abs().max().item()), msg=path
        )


def backward(model: nn.Module, images: Tensor) -> None:
    logits(model(images)).square().mean().backward()


def logits(output: object) -> Tensor:
    """Inception and GoogLeNet return their auxiliary logits beside the logits in train mode."""
    return output if isinstance(output, Tensor) else output[0]  # type: ignore[index]
