"""The routes of the REST API and the shapes of what they take and give, from its OpenAPI."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from directives.markdown import code, table
from xinference_venv.client import Client
from xinference_venv.rest.app import ROUTES, create_app


def rest_api() -> str:
    """A section for each route, then one for each shape."""
    app = create_app(Client(supervisor=None), tokens=None)
    described = app.openapi()
    operations = {
        (path, method.upper()): operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }
    scopes = {(route.path, route.method): route.scope for route in ROUTES}
    anywhere = set.intersection(*(set(each["responses"]) for each in operations.values()))
    anywhere = {status for status in anywhere if status >= "400"}
    parts = ["## Routes"]
    for (path, method), operation in operations.items():
        scope = scopes[path, method]
        parts += _route(f"{method} {path}", operation, None if scope is None else str(scope))
        parts.append(_answers(operation["responses"], operation["responses"].keys() - anywhere))
    parts += ["## Errors of any route", _answers(operation["responses"], anywhere)]
    parts.append("## Shapes")
    for name, schema in sorted(described["components"]["schemas"].items()):
        parts += _shape(name, schema)
    return "\n\n".join(parts)


def _route(title: str, operation: Mapping[str, Any], scope: str | None) -> Iterator[str]:
    yield f"### {title}"
    yield inspect.cleandoc(operation.get("description", ""))
    yield f"Scope: {code(scope)}" if scope else "Scope: none, anybody may ask."
    parameters = [
        [
            code(each["name"]),
            each["in"],
            _type(each["schema"]),
            "yes" if each.get("required") else "",
            each.get("description") or each["schema"].get("description", ""),
        ]
        for each in operation.get("parameters", [])
    ]
    if parameters:
        yield table(["parameter", "in", "type", "needed", "meaning"], parameters)
    if "requestBody" in operation:
        [content] = operation["requestBody"]["content"].values()
        yield f"Body: {_type(content['schema'])}"


def _answers(responses: Mapping[str, Any], statuses: Collection[str]) -> str:
    """The answers of some statuses."""
    rows = []
    for status in sorted(statuses):
        for kind, content in (responses[status].get("content") or {"": {}}).items():
            schema = content.get("schema")
            shape = _type(schema) if schema else (code(kind) if kind else "")
            rows.append([status, shape, responses[status]["description"]])
    return table(["status", "answer", "meaning"], rows)


def _shape(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}"
    yield inspect.cleandoc(schema.get("description", ""))
    if "enum" in schema:
        yield f"One of {', '.join(code(str(each)) for each in schema['enum'])}."
        return
    needed = schema.get("required", [])
    rows = [
        [
            code(key),
            _type(value),
            "yes" if key in needed else "",
            value.get("description", ""),
        ]
        for key, value in schema.get("properties", {}).items()
    ]
    yield table(["key", "type", "needed", "meaning"], rows)


def _type(schema: Mapping[str, Any]) -> str:
    """A type in a few words; a shape is a link to its section."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for joined in ("anyOf", "oneOf", "allOf"):
        if joined in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[joined])))
    if "enum" in schema:
        return ", ".join(code(str(each)) for each in schema["enum"])
    if "const" in schema:
        return code(str(schema["const"]))
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return {"integer": "whole number", "boolean": "true or false"}.get(kind, kind)
