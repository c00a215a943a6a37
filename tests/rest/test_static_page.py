"""The files of the page: who may load them, what a browser may do, what it keeps."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.rest.fakes import FakeSupervisor, app_of, browser
from xinference_venv.rest import static_page
from xinference_venv.rest.tokens import Tokens

UI = Path(static_page.__file__).with_name("ui")
FILES = sorted(path.name for path in UI.iterdir())
NOBODY = Tokens.parse(f"sha256:{hashlib.sha256(b'x').hexdigest()} virtualenv:list")


@pytest.mark.parametrize("path", ["/", *(f"/ui/{name}" for name in FILES)])
async def test_anybody_may_load_a_file_and_it_loads_nothing_of_other_hosts(path: str) -> None:
    supervisor = FakeSupervisor()
    async with browser(app_of(supervisor, tokens=NOBODY)) as ask:
        answer = await ask.get(path)
        head = await ask.head(path)
    assert answer.status_code == head.status_code == 200
    assert head.headers["etag"] == answer.headers["etag"]
    policy = dict(
        each.split(" ", 1) for each in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert policy["trusted-types"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert supervisor.asked == []


async def test_a_file_that_a_browser_has_is_not_sent_again() -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        etag = (await ask.get("/ui/app.js")).headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}'):
            again = await ask.get("/ui/app.js", headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        other = await ask.get("/ui/app.js", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200
    assert other.headers["cache-control"] == "no-cache"


async def test_files_that_an_installer_linked_into_place_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linked_rest" / "ui").mkdir(parents=True)
    (tmp_path / "linked_rest" / "__init__.py").touch()
    for name in FILES:
        (tmp_path / "linked_rest" / "ui" / name).symlink_to(UI / name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(static_page, "__package__", "linked_rest")
    async with browser(app_of(FakeSupervisor())) as ask:
        answers = [await ask.get(path) for path in ("/", "/ui/app.js")]
    assert [each.status_code for each in answers] == [200, 200]


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        ("/ui/app.js", "text/javascript"),
        ("/ui/base.css", "text/css"),
        ("/ui/en.json", "application/json"),
        ("/ui/icon.svg", "image/svg+xml"),
    ],
)
async def test_a_file_says_what_it_is(path: str, media_type: str) -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.get(path)
    assert answer.headers["content-type"].partition(";")[0] == media_type


@pytest.mark.parametrize(
    "path",
    [
        *("/ui", "/ui/", "/ui/none.js", "/ui/.hidden", "/ui/a%00b"),
        *("/ui/..%2Ftokens.py", "/ui/%2e%2e/tokens.py", "/ui//etc/passwd", "/ui/%2Fetc%2Fpasswd"),
    ],
)
async def test_what_is_no_file_of_the_page_is_not_found(path: str) -> None:
    async with browser(app_of(FakeSupervisor())) as ask:
        answer = await ask.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_page_takes_no_other_method_and_is_no_part_of_the_api() -> None:
    app = app_of(FakeSupervisor())
    async with browser(app) as ask:
        for path in ("/", "/ui/app.js"):
            answer = await ask.post(path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert not [path for path in app.openapi()["paths"] if path == "/" or path.startswith("/ui")]
