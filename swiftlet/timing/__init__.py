"""Timing files: races with a verdict, one file layer by layer, and the way from a photo on disk to its scores.

files.py, layers.py, photos.py; entrants.py loads what is raced and lets in only what computes the right numbers.
"""

from swiftlet.timing.entrants import Dropped, Entry
from swiftlet.timing.files import Timed, time_files
from swiftlet.timing.layers import LayerTimes, time_layers
from swiftlet.timing.photos import PhotoTimes, time_photos

__all__ = [
    "Dropped", "Entry", "LayerTimes", "PhotoTimes", "Timed", "time_files", "time_layers", "time_photos",
]  # fmt: skip
