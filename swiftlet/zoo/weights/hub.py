"""Files of the Hugging Face hub, in its own cache: what is there is used as it is, what is not is downloaded once.

The cache is asked first and the network only for what it lacks, so a run that has its weights makes no request.
HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE mean what they mean everywhere.
"""

import re
from pathlib import Path

from swiftlet.errors import BadFile, MissingExtra

PAGE = "https://huggingface.co/"


def cached(repository: str, name: str) -> Path | None:
    """A file of a repository such as "timm/mobilenetv2_100.ra_in1k", if the cache has it; asks nobody.

    Without the package there is no cache to look in. Raises BadFile for a name that no repository can have.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(repository, name)
    except ValueError as error:
        raise BadFile(f"{repository}: is neither a file, a folder nor the name of a repository ({error})") from error
    return Path(found) if isinstance(found, str) else None  # it may also be a mark that the hub has no such file


def fetch(repository: str, name: str) -> Path:
    """The same file, downloaded if need be. Raises MissingExtra, and BadFile naming the file that cannot be had."""
    found = cached(repository, name)
    if found is not None:
        return found
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra(
            f"{repository}: the hub is reached through the extra 'hub': pip install 'swiftlet[hub]'; "
            "or give the path of a local file or folder"
        ) from error
    try:
        return Path(hf_hub_download(repository, name))
    except (LocalEntryNotFoundError, ConnectionError) as error:
        folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
        raise BadFile(
            f"{name} of {repository} is missing in {folder}, and the hub is out of reach; go online once, "
            f"or put the files of {PAGE}{repository} into a folder and give its path"
        ) from error
    except EntryNotFoundError as error:
        raise BadFile(f"{name} is missing in {PAGE}{repository}") from error
    except Exception as error:  # a broken line is told by its HTTP library, which is another one in each version
        first = str(error).strip().partition("\n")[0]
        raise BadFile(f"{name} of {repository} cannot be downloaded: {first or type(error).__name__}") from error


def digest_of(path: Path) -> str | None:
    """The SHA-256 that the hub gives for a cached large file, None where the cache does not say it.

    The cache links snapshots/COMMIT/NAME to blobs/ETAG, and the etag of a large file is its digest. One link is
    followed, no more: a blob can itself be a link into a store that goes by another hash.
    """
    target = path.readlink() if path.is_symlink() else path
    known = target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name)
    return target.name if known else None
