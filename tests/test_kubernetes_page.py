"""The manifests of the page about Kubernetes: they are YAML, and say what our programs take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]

from xinference_venv.cli.help import CLUSTER_VARIABLES, VARIABLES
from xinference_venv.cli.main import commands
from xinference_venv.rest.routes.cluster import ROUTES

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "kubernetes.md"
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_VARIABLES = {name for name, _ in (*VARIABLES, *CLUSTER_VARIABLES)} | {"HOME", "POD_IP"}


def manifests() -> list[dict[str, Any]]:
    """All documents of the page."""
    blocks = _BLOCK.findall(PAGE.read_text("utf-8"))
    return [each for block in blocks for each in yaml.safe_load_all(block)]


def pods() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The pods that a controller makes, each with the controller's specification."""
    for each in manifests():
        if "template" in each["spec"]:
            yield each["spec"], each["spec"]["template"]["spec"]


PODS = [
    pytest.param(controller, pod, id=pod["containers"][0]["name"]) for controller, pod in pods()
]


def test_the_page_has_a_supervisor_and_workers_with_a_service_each() -> None:
    kinds = [(each["kind"], each["metadata"]["name"]) for each in manifests()]
    assert kinds == [
        ("Service", "venv-supervisor"),
        ("Deployment", "venv-supervisor"),
        ("Service", "venv-worker"),
        ("StatefulSet", "venv-worker"),
    ]
    for service, controller in zip(manifests()[::2], manifests()[1::2], strict=True):
        labels = controller["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"] == labels
        assert controller["spec"]["selector"]["matchLabels"] == labels
        [container] = controller["spec"]["template"]["spec"]["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert {each["name"]: each["port"] for each in service["spec"]["ports"]} == ports


@pytest.mark.parametrize(("controller", "pod"), PODS)
def test_the_arguments_are_a_command_of_ours(
    controller: dict[str, Any], pod: dict[str, Any]
) -> None:
    [container] = pod["containers"]
    name, *arguments = [each.replace("$(POD_IP)", "10.0.0.1") for each in container["args"]]
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    context = command.make_context(name, arguments)
    ports = {each["containerPort"] for each in container["ports"]}
    given = {context.params.get(each) for each in ("port", "web_port")} - {None}
    assert given == ports


@pytest.mark.parametrize(("controller", "pod"), PODS)
def test_the_variables_are_read_and_the_volumes_are_there(
    controller: dict[str, Any], pod: dict[str, Any]
) -> None:
    [container] = pod["containers"]
    assert {each["name"] for each in container["env"]} <= _VARIABLES
    there = {each["name"] for each in pod["volumes"]}
    there |= {each["metadata"]["name"] for each in controller.get("volumeClaimTemplates", [])}
    assert {each["name"] for each in container["volumeMounts"]} == there


@pytest.mark.parametrize(("controller", "pod"), PODS)
def test_nothing_is_root_s_and_only_volumes_can_be_written_to(
    controller: dict[str, Any], pod: dict[str, Any]
) -> None:
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = [each["mountPath"] for each in container["volumeMounts"]]
    written = {"HOME", "XINFERENCE_HOME", "UV_CACHE_DIR"}
    for each in container["env"]:
        if each["name"] in written:
            assert any(Path(each["value"]).is_relative_to(place) for place in mounted)


@pytest.mark.parametrize(("controller", "pod"), PODS)
def test_what_is_probed_answers_without_a_token_or_a_worker(
    controller: dict[str, Any], pod: dict[str, Any]
) -> None:
    [container] = pod["containers"]
    ports = {each["name"] for each in container["ports"]}
    probes = [value for name, value in container.items() if name.endswith("Probe")]
    assert len(probes) > 1
    for probe in probes:
        [asked] = (probe[each] for each in ("httpGet", "tcpSocket") if each in probe)
        assert asked["port"] in ports
        # `/ready` would keep the workers from a supervisor that has none.
        assert asked.get("path", "/health") == "/health"
    assert any(route.path == "/health" and route.scope is None for route in ROUTES)
