"""Values as attributes, generic over type hints: what a dataclass or a pydantic value holds decides how it is stored.

None, empty tuples and values that equal the default of their field are not stored. So an item of an older version
reads as if its missing fields had their defaults, and unknown attributes of a newer one are passed over.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache, cached_property, partial
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from quaymaster.adapters.records.items import Attribute, Item

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)
_REQUIRED = object()


@dataclass(frozen=True)
class Coding:
    """How values of one type are written and read."""

    write: Callable[[Any], Attribute]
    read: Callable[[Attribute], Any]


@dataclass(frozen=True)
class StoredField:
    """One field of a record: where it lies in the item, and how."""

    name: str
    attribute: str
    coding: Coding
    default: object


@dataclass(frozen=True)
class Fields[T]:
    """The stored fields of a type."""

    made: Callable[..., T]
    stored: tuple[StoredField, ...]

    def write(self, value: T, **shorter: object) -> Item:
        """The value's attributes, some of them as they are given here."""
        item: Item = {}
        held = {**vars(value), **shorter} if shorter else vars(value)
        for name, attribute, default, write in self._writers:
            found = held[name]
            if found is not None and found != default:
                item[attribute] = write(found)
        return item

    @cached_property
    def _writers(self) -> list[tuple[str, str, object, Callable[[Any], Attribute]]]:
        return [(field.name, field.attribute, field.default, field.coding.write) for field in self.stored]

    def read(self, item: Item, known: Mapping[str, object]) -> T:
        """The value that was written, given the fields that are known without the item."""
        found = {f.name: f.coding.read(item[f.attribute]) for f in self.stored if f.attribute in item}
        return self.made(**found, **known)


@cache
def fields_of[T](kind: type[T], names: tuple[tuple[str, str], ...] = (), unstored: frozenset[str] = frozenset()):
    """The stored fields of a dataclass or pydantic model: all but `unstored`, under other `names` where given."""
    attribute = dict(names)
    hints, defaults = get_type_hints(kind), _defaults(kind)
    stored = tuple(
        StoredField(name, attribute.get(name, name), _coding(name, hints[name]), default)
        for name, default in defaults.items()
        if name not in unstored
    )
    return Fields[T](kind, stored)


def _defaults(kind: type[Any]) -> dict[str, object]:
    if issubclass(kind, BaseModel):
        return {
            name: _REQUIRED if field.is_required() else field.get_default(call_default_factory=True)
            for name, field in kind.model_fields.items()
        }
    return {field.name: _default(field) for field in dataclasses.fields(kind)}


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    # A version is what conditions are about, so it lies there even when it is 1.
    return _REQUIRED if field.default is dataclasses.MISSING or field.name == "version" else field.default


def _coding(name: str, hint: Any) -> Coding:
    # The table's own expiry wants seconds; every other time is in milliseconds.
    whole = _without_none(hint)
    return _EXPIRY if name == "expires_at" else _SCALARS.get(whole) or _compound(whole)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    return hint


def _compound(hint: Any) -> Coding:
    if get_origin(hint) is tuple:
        element = _coding("", get_args(hint)[0])
        return Coding(partial(_write_list, element), partial(_read_list, element))
    if get_origin(hint) is dict:
        element = _coding("", get_args(hint)[1])
        return Coding(partial(_write_map, element), partial(_read_map, element))
    if issubclass(hint, StrEnum):
        return Coding(lambda value: {"S": value.value}, lambda found: hint(found["S"]))
    if is_dataclass(hint) or issubclass(hint, BaseModel):
        fields = fields_of(hint)
        return Coding(lambda value: {"M": fields.write(value)}, lambda found: fields.read(found["M"], {}))
    raise TypeError(f"no way to store {hint}")


def _write_list(element: Coding, value: tuple[object, ...]) -> Attribute:
    return {"L": [element.write(part) for part in value]}


def _read_list(element: Coding, found: Attribute) -> tuple[object, ...]:
    return tuple(element.read(part) for part in found["L"])


def _write_map(element: Coding, value: dict[str, object]) -> Attribute:
    return {"M": {name: element.write(part) for name, part in value.items()}}


def _read_map(element: Coding, found: Attribute) -> dict[str, object]:
    return {name: element.read(part) for name, part in found["M"].items()}


def number(value: int) -> Attribute:
    """An integer as an attribute."""
    return {"N": str(value)}


def moment(milliseconds: int) -> datetime:
    """The time that is so many milliseconds after the epoch."""
    return _EPOCH + milliseconds * _MILLISECOND


# Rounded up, so that nothing expires before its time.
_EXPIRY = Coding(
    lambda value: number(-((_EPOCH - value) // _SECOND)),
    lambda found: _EPOCH + int(found["N"]) * _SECOND,
)
_SCALARS: dict[Any, Coding] = {
    str: Coding(lambda value: {"S": value}, lambda found: found["S"]),
    bool: Coding(lambda value: {"BOOL": value}, lambda found: found["BOOL"]),
    int: Coding(number, lambda found: int(found["N"])),
    datetime: Coding(
        lambda value: number(round((value - _EPOCH) / _MILLISECOND)), lambda found: moment(int(found["N"]))
    ),
    timedelta: Coding(lambda value: number(round(value / _MILLISECOND)), lambda found: int(found["N"]) * _MILLISECOND),
}
