"""What a request may name, and that refusals tell nothing of what exists."""

from __future__ import annotations

import pytest

from tests.fakes import line
from xinference_venv.errors import InvalidSource
from xinference_venv.planning.allowed_sources import AllowedSources, allowed_hosts, place_of
from xinference_venv.planning.pip_config import PipConfig

_FOLDERS = {"/srv/wheels", "/srv/wheels/sub", "/srv", "/etc", "/"}
_LINKS = {"/srv/wheels/link": "/etc", "/srv/wheels/a@link": "/etc"}


def _real(path: str) -> str | None:
    """A host with a few folders, one of them by a link; `..` is not walked."""
    path = _LINKS.get(path.rstrip("/"), path.rstrip("/")) or "/"
    return path if path in _FOLDERS else None


def allowing(*hosts: str) -> AllowedSources:
    return AllowedSources(roots=("/srv/wheels",), hosts=frozenset(hosts), real_path=_real)


@pytest.mark.parametrize(
    "place",
    [
        "file:///srv/wheels",
        "file:///srv/wheels/a-1.0-py3-none-any.whl",
        "git+file:///srv/wheels/sub@main",
        "git+file:///srv/wheels/sub",
        "git+file:///srv/wheels",
        "git+file:///srv/wheels@main",
        "git+file:///srv/wheels@feature/x",
        "https://index.example/simple",
        "git+https://user:word@index.example/a/b.git@v1",
    ],
)
def test_what_lies_in_an_allowed_folder_or_host_is_allowed(place: str) -> None:
    allowing("index.example").check([place])


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "file:///etc",
        "file:///srv/wheels/link/passwd",
        "file:///srv",
        "file:///%65tc/passwd",
        "git+file:///srv@main",
        "git+file:///srv/wheels/link",
        "git+file:///srv/wheels/link@main",
        "git+file:///srv/wheels/a@link@main",
        "git+file:///srv/wheels/a%40link",
        "git+file:///srv/wheels/link@feature/x",
        "file:///srv/wheels@2/a-1.0-py3-none-any.whl",
        f"file:///etc/{'long' * 40}",
        "https://other.example/simple",
        f"https://other.example/{'long' * 40}",
        "git+ssh://other.example/a/b",
        "https://index.example.evil/simple",
        "http://169.254.169.254/latest",
    ],
)
def test_what_lies_elsewhere_is_refused(place: str) -> None:
    with pytest.raises(InvalidSource) as caught:
        allowing("index.example").check(["https://index.example/simple", place])
    assert caught.value.message.startswith(f"{place!r} ")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("place", "variable"),
    [
        ("file:///etc", "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS"),
        ("https://other.example/simple", "XINFERENCE_VIRTUAL_ENV_ALLOWED_HOSTS"),
    ],
)
def test_a_refusal_names_the_variable_that_allows(place: str, variable: str) -> None:
    with pytest.raises(InvalidSource) as caught:
        allowing("index.example").check([place])
    assert (caught.value.hint or "").startswith(f"{variable} names ")


def test_where_no_host_is_named_any_is_allowed_but_no_other_folder() -> None:
    anywhere = AllowedSources(roots=("/gone", "/srv/wheels"), hosts=None, real_path=_real)
    anywhere.check(["https://other.example/simple", "file:///srv/wheels"])
    with pytest.raises(InvalidSource):
        anywhere.check(["file:///etc"])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("numpy>=1.26", None),
        ("pkg @ https://index.example/pkg.zip", "https://index.example/pkg.zip"),
        ("git+https://index.example/a.git@v1", "git+https://index.example/a.git@v1"),
        ("file:/srv/wheels/a-1.0-py3-none-any.whl", "file:/srv/wheels/a-1.0-py3-none-any.whl"),
        ("a @ FILE:/srv/a-1.0-py3-none-any.whl", "FILE:/srv/a-1.0-py3-none-any.whl"),
    ],
)
def test_the_place_of_a_requirement_is_its_url(text: str, place: str | None) -> None:
    assert place_of(line(text)) == place


def test_a_refusal_does_not_tell_what_exists() -> None:
    words = set()
    for name in ("/etc/passwd", "/etc/nothing", "/nowhere/x"):
        with pytest.raises(InvalidSource) as caught:
            allowing().check([f"file://{name}"])
        words.add(str(caught.value).replace(name, ""))
    assert len(words) == 1


def test_a_refusal_shows_no_credential() -> None:
    with pytest.raises(InvalidSource) as caught:
        allowing().check(["https://user:word@other.example/simple"])
    assert "word" not in str(caught.value)


def test_hosts_are_those_of_the_operator_else_of_pip_and_pypi_for_restricted_requests() -> None:
    pip = PipConfig(index_url="https://mirror.example/simple", find_links=("/srv/wheels",))
    assert allowed_hosts(("a",), pip, restricted=False) == frozenset({"a"})
    assert allowed_hosts((), pip, restricted=False) is None
    found = allowed_hosts((), pip, restricted=True)
    assert found == frozenset({"mirror.example", "pypi.org", "files.pythonhosted.org"})
    extra = PipConfig(
        extra_index_url=("https://extra.example/simple",), find_links=("https://links.example/",)
    )
    found = allowed_hosts((), extra, restricted=True)
    assert found == frozenset(
        {"extra.example", "links.example", "pypi.org", "files.pythonhosted.org"}
    )
    broken = PipConfig(index_url="https://[x/simple")
    assert allowed_hosts((), broken, restricted=True) == allowed_hosts((), None, restricted=True)
    assert allowed_hosts((), None, restricted=True) == frozenset(
        {"pypi.org", "files.pythonhosted.org"}
    )
