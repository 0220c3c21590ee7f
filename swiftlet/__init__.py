"""swiftlet: photos and a budget in; the most accurate small network that fits, as a checked file, out."""

__version__ = "0.1.0"
