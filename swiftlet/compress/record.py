"""Record: what one transform did to a network, in a form that can be stored and replayed."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one transform did.

    `changed` and `skipped` hold module paths of the network that went in; each skip carries its reason.
    `arguments` are plain JSON values, enough to apply the transform again to a fresh network.
    """

    name: str
    arguments: dict[str, object] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
