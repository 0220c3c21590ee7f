"""Reading files that somebody else made: never more than a bound, never a pickle."""

import json
from pathlib import Path
from typing import Any

from swiftlet.errors import BadFile

MAX_JSON = 1_000_000
MAX_BYTES = 2_000_000_000  # ten times the largest network of the zoo
PICKLES = {".pth", ".pt", ".th", ".bin", ".pkl", ".ckpt", ".tar"}


def parse_json(text: str | bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises BadFile for anything else, or for more than MAX_JSON characters."""
    if len(text) > MAX_JSON:
        raise BadFile(f"{where}: holds more than {MAX_JSON:,} characters of JSON")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{where}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise BadFile(f"{where}: holds no JSON object")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises BadFile."""
    with path.open("rb") as file:
        return parse_json(file.read(MAX_JSON + 1), str(path))


def read_bytes(path: Path) -> bytes:
    """A whole file of weights. Raises BadFile for one that is missing, larger than any network's, or a pickle."""
    refuse_pickle(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadFile(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > MAX_BYTES:
        raise BadFile(f"{path}: is larger than {MAX_BYTES / 1e9:g} GB, which no network of the zoo is")
    return content


def refuse_pickle(path: Path) -> None:
    """Raises BadFile for the names that pickles go by."""
    if path.suffix.lower() in PICKLES:
        raise BadFile(f"{path}: is a pickle, and swiftlet opens .safetensors only. {how_to_convert(path)}")


def how_to_convert(pickle: Path) -> str:
    """The command that makes a safetensors file of a pickle, for users to run on pickles that they trust."""
    made = pickle.with_suffix(".safetensors")
    code = "import torch; from safetensors.torch import save_file; "
    code += f"save_file(torch.load('{pickle}', weights_only=True), '{made}')"
    return f'This makes one: python -c "{code}"'
