"""The actors are what their Protocols say, and every answer crosses the wire unharmed."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from types import NoneType
from typing import Any

import pytest

from tests import fakes
from xinference_venv._util.records import Record, from_plain, is_inline, record_hints, to_plain
from xinference_venv.actors.protocols import SupervisorProtocol, WorkerProtocol
from xinference_venv.actors.supervisor import VirtualEnvSupervisorActor
from xinference_venv.actors.worker import VirtualEnvWorkerActor
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.lock import EnvLock

ACTORS: Mapping[type, type] = {
    SupervisorProtocol: VirtualEnvSupervisorActor,
    WorkerProtocol: VirtualEnvWorkerActor,
}


def methods() -> Iterator[tuple[type, str]]:
    for protocol in ACTORS:
        for name, function in vars(protocol).items():
            if inspect.iscoroutinefunction(function) and not name.startswith("_"):
                yield protocol, name


@pytest.mark.parametrize(("protocol", "name"), list(methods()))
def test_an_actor_has_each_method_with_the_same_arguments_and_answer(
    protocol: type, name: str
) -> None:
    declared, made = getattr(protocol, name), getattr(ACTORS[protocol], name)
    assert inspect.iscoroutinefunction(made)
    assert inspect.signature(made) == inspect.signature(declared)
    assert typing.get_type_hints(made) == typing.get_type_hints(declared)


_SCALARS = {str: "x", int: 1, float: 1.5, bool: True, bytes: "eA==", object: "x"}
_SPECIAL: Mapping[str, Any] = {
    "python_version": "3.11",
    "index_url": "https://index.example/simple",
    "extra_index_urls": ["https://index.example/simple"],
    "index_strategy": "first-index",
    "find_links": ["https://index.example/wheels"],
    "file_name": "x-1.0-py3-none-any.whl",
    "url": "https://index.example/x-1.0-py3-none-any.whl",
    "sha256": 64 * "0",
}


def built(hint: object) -> Any:
    """Plain JSON values of a type, with all that is inside it; each list has one item."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if NoneType in arguments:
        [inner] = [each for each in arguments if each is not NoneType]
        return built(inner)
    if origin is tuple:
        return [built(arguments[0])]
    if origin is Mapping:
        return {"key": built(arguments[1])}
    kind: Any = object if hint is Any else origin or hint
    if kind is EnvLock:
        return fakes.lock().to_dict()
    if kind is HostFacts:
        return fakes.host().to_dict()
    if issubclass(kind, Enum):
        return next(iter(kind)).value
    if not issubclass(kind, Record):
        return _SCALARS[kind]
    data: dict[str, Any] = {}
    hints = record_hints(kind, arguments)
    for each in fields(kind):
        value = _SPECIAL.get(each.name) or built(hints[each.name])
        data.update(value if is_inline(each) else {each.name: value})
    return data


@pytest.mark.parametrize(("protocol", "name"), list(methods()))
def test_every_argument_and_answer_comes_back_from_json(protocol: type, name: str) -> None:
    for argument, hint in typing.get_type_hints(getattr(protocol, name)).items():
        data = None if hint is NoneType else _SPECIAL.get(argument) or built(hint)
        read = from_plain(hint, data, "answer")
        again = to_plain(read)
        assert to_plain(from_plain(hint, again, "answer")) == again
        assert from_plain(hint, again, "answer") == read
