"""A run of timm's training script with its defaults, put together from timm's own parts, for benchmarks.minutes.

The script, train.py, is no part of timm's package. DEFAULTS are its arguments that have a say here, read in timm's
repository at commit 2aabaef; AMP, averaged weights, mixup, CutMix, clipping, channels-last and compiling are off there.
A user has to say only where the photos are, which network, for how many classes, on which side, and how many epochs.
The network that counts is the script's own choice, that of the epoch with the best validation accuracy. It is scored in
PyTorch, with timm's evaluation transform: bicubic, to side / crop_pct, centre crop.
"""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn

from swiftlet.progress import Progress

# isort: split
import tests.torchvision_ops  # noqa: F401  (timm imports torchvision)

# isort: split
from timm.data import create_dataset, create_loader, resolve_data_config  # type: ignore[attr-defined]
from timm.loss import LabelSmoothingCrossEntropy  # type: ignore[attr-defined]
from timm.models import load_checkpoint
from timm.optim import create_optimizer_v2, optimizer_kwargs  # type: ignore[attr-defined]
from timm.scheduler import create_scheduler_v2, scheduler_kwargs  # type: ignore[attr-defined]
from timm.utils import CheckpointSaver, random_seed  # type: ignore[attr-defined]

DEFAULTS: dict[str, Any] = {
    "batch_size": 128,
    "opt": "sgd",  # with Nesterov's momentum; BatchNorm and biases do not decay
    "momentum": 0.9,
    "weight_decay": 2e-5,
    "lr_base": 0.1,  # at lr_base_size; with SGD it goes with the batch
    "lr_base_size": 256,
    "sched": "cosine",  # one rate an epoch
    "warmup_epochs": 5,
    "warmup_lr": 1e-5,
    "min_lr": 0.0,
    "cooldown_epochs": 0,
    "scale": (0.08, 1.0),
    "ratio": (3 / 4, 4 / 3),
    "hflip": 0.5,
    "vflip": 0.0,
    "color_jitter": 0.4,
    "aa": None,
    "reprob": 0.0,
    "train_interpolation": "random",
    "smoothing": 0.1,
    "drop": 0.0,
    "seed": 42,
    "workers": 4,
    "worker_seeding": "all",
    "checkpoint_hist": 10,
}
TRIAL = 3  # epochs, from which is told how many fill the minutes
CPU = torch.device("cpu")


class Trained(NamedTuple):
    """`model` is that of `best_epoch`, which has the best validation accuracy; `seconds` are those of each epoch."""

    model: nn.Module
    best_epoch: int
    validation_percent: float
    seconds: list[float]


def epochs_for(minutes: float, build: Callable[[], nn.Module], data: Path, side: int, folder: Path) -> int:
    """How many epochs a user gives it who has tried three: the fastest counts, so that it rather takes longer."""
    tried = train(build, data, side, TRIAL, folder, lambda *_: None)
    return max(1, int(60 * minutes / min(tried.seconds[1:])))  # the first one also starts the workers


def train(
    build: Callable[[], nn.Module], data: Path, side: int, epochs: int, folder: Path, progress: Progress
) -> Trained:
    """`data` has train and val, each a folder per class; the network of `build` has a class for each, and takes
    (N, 3, side, side). Its checkpoints go to `folder`. An epoch is its steps, its validation and its checkpoint."""
    random_seed(DEFAULTS["seed"], 0)  # type: ignore[no-untyped-call]
    model = build()
    learned, validation = loader(model, data, "train", side), loader(model, data, "validation", side)
    rate = DEFAULTS["lr_base"] * DEFAULTS["batch_size"] / DEFAULTS["lr_base_size"]
    arguments = SimpleNamespace(**DEFAULTS, lr=rate, epochs=epochs)
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(arguments))  # type: ignore[no-untyped-call]
    scheduler, _ = create_scheduler_v2(optimizer, **scheduler_kwargs(arguments), updates_per_epoch=len(learned))
    loss_of = LabelSmoothingCrossEntropy(DEFAULTS["smoothing"])  # type: ignore[no-untyped-call]
    saver = CheckpointSaver(  # type: ignore[no-untyped-call]
        model, optimizer, checkpoint_dir=folder, recovery_dir=folder, max_history=DEFAULTS["checkpoint_hist"]
    )
    seconds: list[float] = []
    for epoch in range(epochs):
        began = time.perf_counter()
        model.train()
        for images, labels in learned:
            loss = loss_of(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        right, n = score(model, validation)
        best, best_epoch = saver.save_checkpoint(epoch, metric=100 * right / n)  # type: ignore[no-untyped-call]
        scheduler.step(epoch + 1)
        seconds.append(time.perf_counter() - began)
        progress(f"timm, loss {float(loss.detach()):.2f}, {best:.1f} % right at best", epoch + 1, epochs)
    load_checkpoint(model, str(folder / "model_best.pth.tar"))
    return Trained(model, best_epoch, best, seconds)


def loader(model: nn.Module, data: Path, split: str, side: int) -> Any:
    """The script's, for "train" with random crops and colours, for other splits with timm's evaluation transform."""
    config = resolve_data_config({"img_size": side}, model=model)  # type: ignore[no-untyped-call]
    training = split == "train"
    how: dict[str, Any] = {"interpolation": config["interpolation"], "crop_pct": config["crop_pct"]}
    if training:
        named = ("scale", "ratio", "hflip", "vflip", "color_jitter", "worker_seeding")
        how = {name: DEFAULTS[name] for name in named} | {
            "interpolation": DEFAULTS["train_interpolation"],
            "auto_augment": DEFAULTS["aa"],
            "re_prob": DEFAULTS["reprob"],
        }
    return create_loader(
        create_dataset("", root=str(data), split=split, is_training=training),
        input_size=config["input_size"],
        batch_size=DEFAULTS["batch_size"],
        is_training=training,
        mean=config["mean"],
        std=config["std"],
        num_workers=DEFAULTS["workers"],
        device=CPU,
        **how,
    )


def score(model: nn.Module, batches: Any) -> tuple[int, int]:
    """How many pictures of a loader the network gets right, and of how many. Leaves it in evaluation mode."""
    model.eval()
    right = n = 0
    with torch.inference_mode():
        for images, labels in batches:
            right += int((model(images).argmax(1) == labels).sum())
            n += len(labels)
    return right, n
