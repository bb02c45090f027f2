"""What a check has to say."""

from dataclasses import dataclass

from proxy.config.positions import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has to say of the key at `path`, which may be absent."""

    path: Path
    message: str
    allowed: str | None = None
    suggestion: str | None = None
