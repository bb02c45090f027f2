"""A configuration file of Penstock's in the making: values with remarks, then TOML."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from proxy.config.positions import Path
from proxy.config.schema import allowed_text, shape_at
from proxy.config.settings import Settings

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ORDER = (
    *("server", "client_tls", "server_tls", "client_tcp", "server_tcp", "log", "limits", "pool"),
    *("auth", "routing", "cache", "database"),
)


class ImportFileError(Exception):
    """The file can't be read; the message names it, and the line where there is one."""


@dataclass(slots=True)
class _Table:
    values: dict[str, tuple[Any, str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class Draft:
    """See the module's docstring. Tables are named by their path; "auth.users" is an array."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._head: list[str] = []
        self._tables: dict[Path, _Table] = {}
        self.users: dict[str, dict[str, Any]] = {}
        """By name: what an element of [[auth.users]] holds."""
        self.without_equal: list[str] = []
        """What could not be taken over, in the words of the remarks."""

    def put(self, table: Path, key: str, value: Any, remark: str = "") -> bool:
        """Set a key; false, and a remark, where Penstock doesn't have it or doesn't take that."""
        shape = shape_at(Settings, (*table, key))
        name = ".".join(map(str, (*table, key)))
        if shape is None:
            self.lose(table, f"{name} = {_toml(value)}: not in this version")
            return False
        if shape.choices and value not in shape.choices:
            self.lose(table, f"{name} = {_toml(value)} is not taken: {allowed_text(shape)}")
            return False
        self._table(table).values[key] = (value, remark)
        return True

    def has(self, table: Path, key: str) -> bool:
        """Whether the key has been set."""
        return table in self._tables and key in self._tables[table].values

    def values(self, table: Path) -> dict[str, Any]:
        """What has been set in a table."""
        own = self._tables.get(table, _Table())
        return {key: value for key, (value, _) in own.values.items()}

    def put_pool(self, top: Path, own: dict[str, Any]) -> None:
        """Set a database's own pool, beside what [pool] has."""
        if not known("auth.users.0.pool"):  # here it replaces [pool] whole
            own = {**self.values(("pool",)), **own} if own else {}
        for key, value in own.items():
            self.put((*top, "pool"), key, value)

    def say(self, table: Path, remark: str) -> None:
        """A remark in a table; at the top for the path ()."""
        remarks = self._table(table).remarks if table else self._head
        if remark not in remarks:
            remarks.append(remark)

    def lose(self, table: Path, remark: str) -> None:
        """A remark on what has no equal."""
        self.say(table if shape_at(Settings, table) else (), f"NO EQUAL: {remark}")
        if remark not in self.without_equal:
            self.without_equal.append(remark)

    def _table(self, table: Path) -> _Table:
        return self._tables.setdefault(table, _Table())

    def render(self) -> str:
        """The file."""
        parts = ["\n".join(_comment(line) for line in (self._title, *self._head)) + "\n"]
        for table in sorted(self._tables, key=lambda one: _ORDER.index(str(one[0]))):
            parts.append(self._rendered(table))
            if table == ("auth",):
                parts += [_user(values) for values in self.users.values()]
        return "\n".join(parts)

    def _rendered(self, table: Path) -> str:
        own = self._tables[table]
        lines = [f"[{'.'.join(_key(str(part)) for part in table)}]"]
        for key, (value, remark) in own.values.items():
            lines.append(f"{_key(key)} = {_toml(value)}{f'  # {remark}' if remark else ''}")
        lines += [_comment(remark) for remark in own.remarks]
        return "\n".join(lines) + "\n"


def known(path: str) -> bool:
    """Whether this version has the setting."""
    return shape_at(Settings, tuple(path.split("."))) is not None


def _user(values: dict[str, Any]) -> str:
    own = {key: value for key, value in values.items() if key != "remark"}
    lines = ["[[auth.users]]"] + [f"{_key(key)} = {_toml(value)}" for key, value in own.items()]
    if "remark" in values:
        lines.append(_comment(values["remark"]))
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return f"# {' '.join(text.split())}"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
