"""One setting changed by hand: `SET key = value` of the admin console."""

from typing import Any

from pydantic import ValidationError

from proxy.config.checks import find
from proxy.config.problems import nearest
from proxy.config.schema import Shape, allowed_text, fields_of, shape_at, shape_of_field
from proxy.config.settings import Settings
from proxy.config.sources import value_of_text
from proxy.config.validate import message_of

BOUNCER_NAMES = {
    "client_login_timeout": "server.login_timeout",
    "default_pool_size": "pool.size",
    "max_client_conn": "server.max_client_connections",
    "pool_mode": "pool.mode",
    "query_wait_timeout": "pool.wait_timeout",
    "server_connect_timeout": "pool.connect_timeout",
    "server_idle_timeout": "pool.idle_timeout",
    "server_lifetime": "pool.max_lifetime",
}
"""PgBouncer's names of settings that mean the same here; durations are seconds there too."""


class SettingError(Exception):
    """The setting can't be changed so."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def assign(settings: Settings, key: str, text: str) -> tuple[tuple[str, ...], Settings]:
    """(the key's path, settings with that value), checked like a file. Raises SettingError.

    `key` is a path as SHOW CONFIG shows it, or PgBouncer's name; `text` as in an environment
    variable.
    """
    path = tuple(BOUNCER_NAMES.get(key, key).split("."))
    shape = _shape(settings, path)
    whole: Any = settings.model_dump(by_alias=True)
    data = settings.model_dump(by_alias=True, exclude_unset=True)  # defaults stay "not given"
    table: Any = data
    for number, part in enumerate(path[:-1]):
        whole = whole.get(part)
        if whole is None:
            where = ".".join(path[: number + 1])
            raise SettingError(
                f"{key} can't be set: there is no table {where}",
                "add the table to the configuration file and RELOAD",
            )
        table = table.setdefault(part, {})
    table[path[-1]] = value_of_text(text)
    try:
        changed = Settings.model_validate(data)
    except ValidationError as error:
        allowed = allowed_text(shape)
        raise SettingError(
            f"{key} = {_shown(shape, text)}: {message_of(error.errors()[0])}",
            f"allowed: {allowed}" if allowed else "",
        ) from None
    for finding in find(changed):
        where = ".".join(map(str, finding.path))
        raise SettingError(f"{key} = {_shown(shape, text)}: {where} {finding.message}", "")
    return path, changed


def _shape(settings: Settings, path: tuple[str, ...]) -> Shape:
    shape = shape_at(Settings, path)
    known = len(path) < 2 or path[0] != "database" or path[1] in settings.databases
    if shape is None or not shape.is_leaf or not known:
        near = nearest(".".join(path), [*_keys(), *BOUNCER_NAMES])
        raise SettingError(
            f"there is no setting {'.'.join(path)} with a value of its own",
            (f"did you mean {near}? " if near else "") + "SHOW CONFIG lists all",
        )
    return shape


def _keys() -> list[str]:
    """The settings outside tables by name."""
    shapes = {section: shape_of_field(info) for section, info in fields_of(Settings).items()}
    return [
        f"{section}.{key}"
        for section, shape in shapes.items()
        if shape.model is not None
        for key in fields_of(shape.model)
    ]


def _shown(shape: Shape, text: str) -> str:
    return "********" if shape.words.secret else text
