"""Recipes: the papers' numbers, rates at given epochs, another batch, the choice that `fit` makes, the page of docs."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from docs.generate.recipes import FACTS, facts, recipes_page
from docs.generate.zoo import DOCS
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.recipes import get_recipe, list_recipes, scaled
from swiftlet.recipes.choose import LONG_MINUTES, choose
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.recipe import Recipe
from swiftlet.train.schedules import rate
from swiftlet.zoo import create_model

RMSPROP = {"optimizer": "rmsprop", "momentum": 0.9, "square_decay": 0.9}
SGD = {"optimizer": "sgd", "momentum": 0.9, "nesterov": False}
PRINTED = {  # the papers' numbers, and SqueezeNet's and V2's length from their authors' repositories
    "mobilenet_v1": RMSPROP  # arXiv:1704.04861, 3.2; arXiv:1512.00567, 8
    | {"lr": 0.045, "gamma": 0.94, "gamma_epochs": 2, "epsilon": 1.0, "clip": 2.0, "batch": 32, "epochs": 100}
    | {"decayed": "dense", "label_smoothing": 0.0},
    "mobilenet_v2": RMSPROP  # arXiv:1801.04381, 6.1
    | {
        "lr": 0.045,
        "gamma": 0.98,
        "gamma_epochs": 1,
        "weight_decay": 4e-5,
        "batch": 96,
        "epochs": 5.5e6 * 96 / 1_281_167,
    },
    "mobilenet_v3_large": {"optimizer": "rmsprop", "momentum": 0.9}  # arXiv:1905.02244, 6.1.1
    | {"lr": 0.1, "gamma": 0.99, "gamma_epochs": 3, "weight_decay": 1e-5, "batch": 4096, "dropout": 0.2},
    "mnasnet": RMSPROP  # arXiv:1807.11626, 5
    | {"lr": 0.256, "gamma": 0.97, "gamma_epochs": 2.4, "weight_decay": 1e-5, "batch": 4096, "dropout": 0.2},
    "shufflenet_v1": SGD  # arXiv:1707.01083, 4
    | {"lr": 0.5, "schedule": "linear", "weight_decay": 4e-5, "batch": 1024, "epochs": 3e5 * 1024 / 1_281_167},
    "ghostnet": SGD  # arXiv:1911.11907, 4.2
    | {"lr": 0.4, "schedule": "linear", "weight_decay": 4e-5, "batch": 1024, "epochs": 3e5 * 1024 / 1_281_167},
    "squeezenet": SGD  # arXiv:1602.07360 and its solver
    | {
        "lr": 0.04,
        "schedule": "linear",
        "weight_decay": 2e-4,
        "batch": 512,
        "epochs": 1.7e5 * 512 / 1_281_167,
        "dropout": 0.5,
    },
    "xception": SGD  # arXiv:1610.02357, 4.3 and 4.4
    | {"lr": 0.045, "gamma": 0.94, "gamma_epochs": 2, "weight_decay": 1e-5, "dropout": 0.5},
}
AVERAGED = {"mobilenet_v1", "mobilenet_v3_large", "mobilenet_v3_small", "mnasnet", "xception"}
SAME = {"mobilenet_v3_small": "mobilenet_v3_large", "shufflenet_v2": "shufflenet_v1"}
PAPERS = [name for name in list_recipes() if get_recipe(name).epochs is not None]


@pytest.mark.parametrize("name", PRINTED)
def test_a_papers_recipe_is_what_it_prints(name: str) -> None:
    recipe = get_recipe(name)
    assert {field: getattr(recipe, field) for field in PRINTED[name]} == pytest.approx(PRINTED[name])


def test_every_papers_recipe_is_in_a_table_above() -> None:
    assert set(PAPERS) == PRINTED.keys() | SAME.keys()
    for name, other in SAME.items():
        assert dataclasses.replace(get_recipe(name), name=other) == get_recipe(other)


@pytest.mark.parametrize("name", PAPERS)
def test_averages_forget_as_the_papers(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.epochs is not None
    steps = recipe.epochs * 1_281_167 / recipe.batch
    if name in AVERAGED:
        assert 1 - 1 / (recipe.ema * steps) == pytest.approx(0.9999, abs=1e-9)
    else:
        assert recipe.ema == 0


@pytest.mark.parametrize(
    ("name", "epoch", "expected"),
    [
        ("mobilenet_v1", 10, 0.045 * 0.94**5),
        ("mobilenet_v2", 100, 0.045 * 0.98**100),
        ("mobilenet_v3_large", 30, 0.1 * 0.99**10),
        ("xception", 99, 0.045 * 0.94**49),
        ("mnasnet", 2.5, 0.128),
        ("mnasnet", 5, 0.256),
        ("mnasnet", 5 + 24.1, 0.256 * 0.97**10),
        ("shufflenet_v1", 119.89, 0.25),
        ("ghostnet", 59.945, 0.3),
        ("squeezenet", 67.938 * 0.75, 0.01),
    ],
)
def test_rates_at_given_epochs(name: str, epoch: float, expected: float) -> None:
    recipe = get_recipe(name)
    assert recipe.epochs is not None
    per_epoch = 1_281_167 // recipe.batch
    now = recipe.lr * rate(recipe, round(epoch * per_epoch), round(recipe.epochs * per_epoch), per_epoch)
    assert now == pytest.approx(expected, rel=0.005)


def test_the_rate_goes_with_the_batch() -> None:
    mobilenet, resnet = get_recipe("mobilenet_v2"), Recipe(name="resnet", lr=0.1, batch=256)
    assert scaled(resnet, 8192).lr == pytest.approx(3.2)  # Goyal et al. 2017, section 5.1
    assert scaled(mobilenet, 768).lr == pytest.approx(0.36)  # 8 GPUs in the authors' README: .045 x 8
    assert scaled(dataclasses.replace(resnet, optimizer="adamw"), 1024).lr == pytest.approx(0.2)
    assert scaled(resnet, 256) == resnet
    assert dataclasses.replace(scaled(mobilenet, 768), batch=96, lr=0.045) == mobilenet  # and nothing else
    for batch in (0, -8, 1.5):
        with pytest.raises(BadInput, match="batch"):
            scaled(resnet, batch)  # type: ignore[arg-type]


@given(st.booleans(), st.integers(2, 10**7), st.integers(8, 4000), st.floats(0.01, LONG_MINUTES, exclude_max=True))
def test_short_runs_have_the_recipes_for_minutes(grey: bool, pictures: int, side: int, minutes: float) -> None:
    recipe, why = choose(grey=grey, pictures=pictures, side=side, minutes=minutes, pretrained=False)
    assert recipe == get_recipe("glyphs" if grey else "photos")
    assert str(pictures) in why and "," not in why  # a progress line is cut at the first comma


@pytest.mark.parametrize(
    ("grey", "pictures", "side", "minutes", "pretrained", "name"),
    [
        (False, 300, 160, 20, False, "tiny"),
        (False, 3000, 160, 20, False, "photos_long"),
        (False, 3000, 160, 60, True, "photos_finetuning"),
        (False, 42_500, 32, 30, False, "photos"),  # some 20 epochs
        (False, 42_500, 32, 120, False, "cifar"),
        (False, 42_500, 160, 120, False, "photos_long"),
        (False, 5_000, 32, 120, False, "photos_long"),
        (True, 51_000, 28, 20, False, "glyphs"),
        (True, 300, 28, 120, False, "glyphs"),
        (True, 51_000, 28, 120, False, "glyphs_long"),
        (True, 51_000, 28, 120, True, "glyphs_finetuning"),
    ],
)
def test_long_runs_have_recipes_of_their_own(
    grey: bool, pictures: int, side: int, minutes: float, pretrained: bool, name: str
) -> None:
    recipe, why = choose(grey=grey, pictures=pictures, side=side, minutes=minutes, pretrained=pretrained)
    assert recipe == get_recipe(name) and "," not in why
    assert recipe.flip == (not grey)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains(name: str) -> None:
    """Two steps: every value that a recipe has is one that the loop can do."""
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", width=0.0625, num_classes=3, stem_stride=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rng = np.random.default_rng(0)
    pictures = Pictures(rng.integers(0, 256, (8, 32, 32, 3), np.uint8), rng.integers(0, 3, 8))
    training = Training(model, pictures, InputContract(side=32), scaled(get_recipe(name), 4), steps=2, seed=0)
    assert training.run()
    after = model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert not torch.equal(after["classifier.weight"], before["classifier.weight"])


def test_the_page_of_recipes_is_current() -> None:
    assert (DOCS / "recipes.md").read_text() == recipes_page(), "run python -m docs.generate"


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_says_what_it_was_run_on(name: str) -> None:
    assert set(facts(name)) == {"what", *FACTS}
    assert ("not run here" in facts(name)["expected"]) == (name in PAPERS)
