"""How the settings' types read in words: shared by the error messages and the reference."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from proxy.config.positions import Path
from proxy.config.problems import written
from proxy.config.section import Section
from proxy.config.types import Words

_NO_WORDS = Words("", "")
_PLAIN_TYPES = {
    bool: Words("boolean", "true or false", lambda value: written(value) or ""),
    int: Words("integer", ""),
    float: Words("number", ""),
    str: Words("text", "", lambda value: written(value) or ""),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a key may hold. `model` is set for a table, `item` for an array or a table by name."""

    type_name: str
    words: Words = _NO_WORDS
    choices: tuple[str, ...] = ()
    limits: str = ""
    model: type[Section] | None = None
    item: "Shape | None" = None
    by_name: bool = False

    @property
    def is_leaf(self) -> bool:
        """Whether it holds values rather than tables."""
        return self.model is None and (self.item is None or self.item.is_leaf)


def fields_of(model: type[Section]) -> dict[str, FieldInfo]:
    """A section's fields by the keys that files use."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def shape_of_field(info: FieldInfo) -> Shape:
    """The shape of a field."""
    return shape_of(info.annotation, info.metadata)


def shape_of(annotation: Any, metadata: Iterable[Any] = ()) -> Shape:
    """The shape of a type as the settings annotate it."""
    metadata = list(_flatten(metadata))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return shape_of(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, UnionType):
        return shape_of(next(a for a in arguments if a is not NoneType), metadata)
    if origin is tuple:
        item = shape_of(arguments[0])
        return Shape(f"array of {_plural(item.type_name)}", item.words, item.choices, item=item)
    if origin is dict:
        return Shape("tables by name", item=shape_of(arguments[1]), by_name=True)
    if origin is Literal:
        return Shape("text", _PLAIN_TYPES[str], choices=tuple(arguments))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Shape("table", model=annotation)
    own = next((m for m in metadata if isinstance(m, Words)), _PLAIN_TYPES.get(annotation))
    if own is None:
        raise TypeError(f"no words for {annotation!r}: annotate it with proxy.config.types.Words")
    return Shape(own.name, own, limits=_limits(metadata))


def shape_at(root: type[Section], path: Path) -> Shape | None:
    """The shape of the key at a path; None where no such key exists."""
    shape: Shape | None = Shape("table", model=root)
    for part in path:
        if shape is None:
            return None
        if shape.model is not None:
            info = fields_of(shape.model).get(str(part))
            shape = shape_of_field(info) if info else None
        else:
            shape = shape.item
    return shape


def allowed_text(shape: Shape) -> str:
    """What a key may hold, in words; empty where its type says it all."""
    return (
        constraint_text(shape)
        if shape.choices
        else ", ".join(filter(None, (shape.words.allowed, shape.limits)))
    )


def constraint_text(shape: Shape) -> str:
    """What a key may hold beyond what its type says."""
    return ", ".join(f'"{choice}"' for choice in shape.choices) or shape.limits


def written_default(info: FieldInfo) -> str | None:
    """A field's default as a file would say it; None where it has none or it is unset."""
    shape = shape_of_field(info)
    if info.is_required() or info.default is None or not shape.is_leaf:
        return None
    if shape.item is not None:
        return f"[{', '.join(map(shape.words.write, info.default))}]"
    return shape.words.write(info.default)


def _plural(name: str) -> str:
    if name == "text":
        return name
    return f"{name}es" if name.endswith("s") else f"{name}s"


def _flatten(metadata: Iterable[Any]) -> Iterable[Any]:
    for entry in metadata:
        if isinstance(entry, FieldInfo):
            yield from entry.metadata
        else:
            yield entry


def _limits(metadata: Iterable[Any]) -> str:
    """The bounds of a number: "1 to 65535", "1 or more", "more than 0"."""
    least = next((m.ge for m in metadata if isinstance(m, annotated_types.Ge)), None)
    most = next((m.le for m in metadata if isinstance(m, annotated_types.Le)), None)
    above = next((m.gt for m in metadata if isinstance(m, annotated_types.Gt)), None)
    if least is not None and most is not None:
        return f"{least} to {most}"
    if least is not None:
        return f"{least} or more"
    return "" if above is None else f"more than {above}"
