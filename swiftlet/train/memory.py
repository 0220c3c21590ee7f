"""Into how many pieces a batch has to be cut so that a training step fits into memory."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from swiftlet.data.contract import InputContract
from swiftlet.data.memory import available_memory
from swiftlet.errors import BadInput
from swiftlet.train.engine import Engine
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.recipe import Recipe

SHARE = 0.8  # of the available memory
WORKING = 1.5  # times what is kept for the backward pass: its gradients, and the scratch memory of kernels
FEWEST = 2  # pictures in a piece: BatchNorm needs more than one


def pieces(model: nn.Module, recipe: Recipe, side: int, engine: Engine, *, part: int | None = None) -> int:
    """The smallest `accumulate` for Training with which `part` pictures, by default recipe.batch, fit into memory.

    1 where they fit as they are. Otherwise they are cut into equal pieces whose gradients are added up: the same
    gradient, but for BatchNorm, which then takes its statistics from each piece. On a GPU a step of a copy is tried; on
    a CPU, where the system would kill the process, its memory is computed from a step of two pictures. Raises BadInput
    if not even a piece of two fits.
    """
    part = part or recipe.batch
    able = [n for n in range(1, part + 1) if part % n == 0 and part // n >= min(FEWEST, part)]
    if engine.device == "cuda":
        has = "the GPU has less"
        fitting = next((n for n in able if _runs(model, recipe, side, engine, part // n)), None)
    else:
        available = available_memory()
        if available is None:
            return 1
        has = f"{available / 1e9:.2f} GB are available"
        each = kept_bytes(model, side, engine) * WORKING
        fitting = next((n for n in able if each * (part // n) <= available * SHARE), None)
    if fitting is None:
        raise BadInput(
            f"a training step of {part // able[-1]} pictures of side {side} does not fit into memory ({has}): use a "
            "smaller side or network, or a machine with more memory"
        )
    return fitting


def kept_bytes(model: nn.Module, side: int, engine: Engine) -> int:
    """Activations that autograd keeps for the backward pass, per picture."""
    model = engine.place(copy.deepcopy(model)).train()
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor.detach())
        return tensor

    images = torch.zeros(FEWEST, 3, side, side, device=engine.device).contiguous(memory_format=engine.layout)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), engine.autocast():
        model(images)
    return sum(kept.values()) // FEWEST


def _runs(model: nn.Module, recipe: Recipe, side: int, engine: Engine, n: int) -> bool:
    """Whether a step of n pictures fits into the GPU's memory."""
    try:
        pictures = Pictures(np.zeros((n, side, side, 3), np.uint8), np.zeros(n, np.int64))
        recipe = replace(recipe, batch=n, side_from=1.0)
        Training(
            copy.deepcopy(model).train(), pictures, InputContract(side=side), recipe, steps=1, seed=0, engine=engine
        ).advance().item()
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True
