"""The shapes of answers, for the description of the API and for clients made from it.

Comes in: the records that are sent. Comes out: pydantic models of their plain values. A later
release may have more keys, so none is forbidden; what is written always is required.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from functools import reduce
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, create_model

from xinference_venv._util.records import Record, is_inline, record_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Reply(BaseModel):
    """Plain JSON values, more of them from a later release."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


_MODELS: dict[object, type[Reply]] = {}


def model_of(
    kind: object, *, more: type[Record] | None = None, perhaps: type[Record] | None = None
) -> type[Reply]:
    """The model of a record's plain values; `more` has further keys, `perhaps` such as may be."""
    which = (kind, more, perhaps)
    if which not in _MODELS:
        _MODELS[which] = _new_model(kind, more, perhaps)
    return _MODELS[which]


def _new_model(
    kind: object, more: type[Record] | None, perhaps: type[Record] | None
) -> type[Reply]:
    record, arguments = _class_of(kind)
    fields: dict[str, Any] = {}
    for each in filter(None, (kind, more)):
        fields.update({name: (_type_of(hint), ...) for name, hint in _hints_of(each)})
    if perhaps is not None:
        for name, hint in _hints_of(perhaps):
            fields.setdefault(name, (_type_of(hint) | None, None))
    words = [record.__name__, *(each.__name__ for each in arguments)]
    model = create_model("".join(words), __base__=Reply, **fields)
    model.__doc__ = record.__doc__
    return model


def _class_of(kind: object) -> tuple[type[Record], tuple[type, ...]]:
    origin = typing.get_origin(kind)
    return cast("type[Record]", origin or kind), typing.get_args(kind)


def _hints_of(kind: object) -> Iterator[tuple[str, object]]:
    """The keys of a record with their types; those of inline fields are among them."""
    record, arguments = _class_of(kind)
    hints = record_hints(record, arguments)
    for field in dataclasses.fields(cast("type[DataclassInstance]", record)):
        if is_inline(field):
            yield from _hints_of(hints[field.name])
        elif field.init:
            yield field.name, hints[field.name]


def _type_of(hint: object) -> Any:
    """The type that pydantic describes a field by."""
    if hint is object:
        return Any
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if NoneType in arguments:
        inner = [_type_of(each) for each in arguments if each is not NoneType]
        return reduce(lambda one, other: one | other, [*inner, None])
    if origin is tuple:
        return list[_type_of(arguments[0])]  # type: ignore[misc]
    if origin is Mapping:
        return dict[str, _type_of(arguments[1])]  # type: ignore[misc]
    if isinstance(origin or hint, type) and issubclass(cast(type, origin or hint), Record):
        return model_of(hint)
    return hint
