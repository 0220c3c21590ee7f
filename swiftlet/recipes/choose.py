"""Which recipe suits a set of pictures and the time that there is."""

from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.recipes import get_recipe
from swiftlet.train.recipe import Recipe

LONG_MINUTES, LONG_EPOCHS = 20.0, 30.0  # both: before that, what strong augmentation teaches has not paid yet
PICTURE_MS = 1.0  # one picture, one training step, on two cores at the sides that `plan` takes: a rough guess
FINAL = 0.5  # share of a run's minutes that go to the network which is delivered
FEW = 1_000  # pictures
MANY = 10_000
THUMBNAIL = 48  # pixels: the size of CIFAR's pictures, and not much more


def choose(*, grey: bool, pictures: int, side: int, minutes: float, pretrained: bool) -> tuple[Recipe, str]:
    """The recipe for a run of `fit`, and in one sentence why.

    `pictures`: in the training split; `side`: the median short side of the pictures themselves, in pixels; `minutes`:
    of the whole run; `pretrained`: from trained weights. Grey pictures are taken for glyphs, which must not be
    mirrored.
    """
    kind = f"{pictures} {'grey pictures taken for glyphs' if grey else 'colour pictures'}"
    epochs = FINAL * minutes * 60_000 / (PICTURE_MS * pictures)
    if pretrained:
        name, why = "glyphs_finetuning" if grey else "photos_finetuning", "a low rate for trained weights"
    elif minutes < LONG_MINUTES:
        name, why = "glyphs" if grey else "photos", f"light augmentation for less than {LONG_MINUTES:g} minutes"
    elif epochs < LONG_EPOCHS:
        name, why = "glyphs" if grey else "photos", f"light augmentation for about {epochs:.0f} epochs"
    elif grey and pictures < FEW:
        name, why = "glyphs", "light augmentation for few pictures that nothing may turn into others"
    elif grey:
        name, why = "glyphs_long", f"more augmentation for {LONG_EPOCHS:g} epochs or more"
    elif pictures < FEW:
        name, why = "tiny", f"the most augmentation for few pictures and about {epochs:.0f} epochs"
    elif side <= THUMBNAIL and pictures >= MANY:
        name, why = "cifar", f"many of about {side} pixels and time for {LONG_EPOCHS:g} epochs or more"
    else:
        name, why = "photos_long", f"more augmentation for {LONG_EPOCHS:g} epochs or more"
    return get_recipe(name), f"{kind}; {why}"


def looks_grey(photos: Photos) -> bool:
    """Whether the first training photos, 64 of them, have no colour."""
    sample = photos.train.subset(range(min(64, len(photos.train)))).pixels(InputContract(side=32))
    return bool((sample == sample[..., :1]).all())
