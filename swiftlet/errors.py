"""Everything swiftlet raises on purpose.

SwiftletError
├── BadInput       an argument, value or call that cannot work (also a ValueError)
├── BadPhotos      a photo source that cannot be trained or tested on
├── BadImage       one picture that cannot be used; the audit sets it aside and goes on
├── BadFile        a model, checkpoint or run file that is refused
├── CannotSave     a checkpoint could not be written; those from before are intact
├── Infeasible     no candidate meets the budget; the text names the nearest that exists
├── NothingToDo    a transform found nothing that it could change
├── RunBusy        another process owns the run folder
├── WorkerLost     another process of a distributed training died or froze
└── MissingExtra   an optional dependency is absent; the text names the extra to install

Each message says what was wrong, where, and what to do about it.
"""


class SwiftletError(Exception):
    """Base of all errors that swiftlet raises on purpose."""


class BadInput(SwiftletError, ValueError):
    """An argument, value or call that cannot work."""


class BadPhotos(SwiftletError):
    """A photo source that cannot be trained or tested on."""


class BadImage(SwiftletError):
    """One picture that cannot be used; str() is the reason in a few words."""


class BadFile(SwiftletError):
    """A model, checkpoint or run file that is refused."""


class CannotSave(SwiftletError):
    """A checkpoint could not be written; those from before are intact."""


class Infeasible(SwiftletError):
    """No candidate meets the budget."""


class NothingToDo(SwiftletError):
    """A transform found nothing that it could change."""


class RunBusy(SwiftletError):
    """Another process owns the run folder."""


class WorkerLost(SwiftletError):
    """Another process of a distributed training died or froze."""


class MissingExtra(SwiftletError):
    """An optional dependency is absent."""
