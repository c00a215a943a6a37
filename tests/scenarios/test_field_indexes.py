"""Whatever makes `pip install` work here makes a launch work: key by key, against pip itself.

And what an index answers that is none, or does not want us: the launch and `doctor` say it.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.index import Index
from tests.proxy import running_proxy
from tests.scenarios.field import Field, Said, open_field
from tests.tls import client_certificate, signed_by_an_authority
from tests.wheels import build_wheel

pytestmark = [pytest.mark.uv, pytest.mark.condition, pytest.mark.usefixtures("wheels")]

KEYRING = """\
#!/bin/sh
[ "$1" = get ] && [ "$3" = ada ] && echo s3cret
"""


@dataclass(kw_only=True)
class Company:
    """A field in a company's network: an index of its own, and what is told to pip."""

    field: Field
    index: Index
    folder: Path
    stack: ExitStack
    asked: list[str] | None = None
    """What a proxy that has to be used was asked for."""

    @property
    def url(self) -> str:
        return self.index.url

    def secure(self, *, client: bool = False) -> None:
        """Let the index speak TLS, signed by the company's own authority."""
        context, authority = signed_by_an_authority(self.folder)
        if client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority)
        self.index.serve_tls(context)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.field.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def configure(self, text: str, **variables: str) -> None:
        path = self.write("pip.conf", f"[global]\n{text}\n")
        self.field = self.field.having(PIP_CONFIG_FILE=str(path), **variables)

    def by_pip(self, *packages: str) -> str | None:
        """The version of ``lantern`` that pip would install, None where it fails."""
        pytest.importorskip("pip")
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", *packages, "--dry-run", "--no-cache-dir"),
                *("--ignore-installed", "--quiet", "--report", str(report)),
            ],
            env={**self.field.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            return None
        found = json.loads(report.read_text())["install"]
        [version] = [
            each["metadata"]["version"] for each in found if each["metadata"]["name"] == "lantern"
        ]
        return str(version)

    def launch(self, *packages: str) -> Said:
        """Launch a model that inherits the configuration."""
        block = {"model_name": "glow", "virtualenv": {"packages": packages}}
        spec = self.write("inheriting.json", json.dumps(block), 0o644)
        return self.field.run("launch", "glow", "--spec", str(spec))

    def by_launch(self, *packages: str) -> str | None:
        """The version of ``lantern`` that a launch installs, None where it fails."""
        said = self.launch(*packages)
        if said.status != 0:
            print(said.output, said.errors)
            return None
        listed = self.field.run("packages", "glow").document["list"][0]["packages"]
        [version] = [each["version"] for each in listed if each["name"] == "lantern"]
        return str(version)


@pytest.fixture
def company(index: Index, uv_cache: Path, tmp_path: Path) -> Iterator[Company]:
    with open_field(index, uv_cache) as field, ExitStack() as stack:
        # A cache of its own: what another index had must not serve.
        own = field.having(UV_CACHE_DIR=None, UV_HTTP_RETRIES="0")
        yield Company(field=own, index=index, folder=tmp_path, stack=stack)


def https(url: str) -> str:
    return url.replace("http:", "https:")


def by_index(company: Company) -> str:
    company.configure(f"index-url = {company.url}")
    return "2.0"


def by_extra_index(company: Company) -> str:
    folder = company.folder / "more"
    folder.mkdir()
    build_wheel(folder, "lantern", "3.0", requires=["wick"])
    extra = company.stack.enter_context(Index(folder))
    company.configure(f"index-url = {company.url}\nextra-index-url = {extra.url}")
    return "3.0"


def by_extra_index_that_refuses_what_it_lacks(company: Company) -> str:
    folder = company.folder / "more"
    folder.mkdir()
    extra = company.stack.enter_context(Index(folder))
    extra.fail("/simple/*", 403)
    company.configure(f"index-url = {company.url}\nextra-index-url = {extra.url}")
    return "2.0"


def by_folder_alone(company: Company) -> str:
    company.configure(f"no-index = yes\nfind-links = {company.folder / 'wheels'}")
    return "2.0"


def by_variables(company: Company) -> str:
    company.configure("index-url = http://nowhere.invalid/simple", PIP_INDEX_URL=company.url)
    return "2.0"


def by_constraint(company: Company) -> str:
    file = company.write("constraints.txt", "lantern<2\n", 0o644)
    company.configure(f"index-url = {company.url}", PIP_CONSTRAINT=str(file))
    return "1.0"


def by_authority(company: Company) -> str:
    company.secure()
    company.configure(f"index-url = {https(company.url)}\ncert = {company.folder}/ca.pem")
    return "2.0"


def by_trusted_host(company: Company) -> str:
    company.secure()
    company.configure(f"index-url = {https(company.url)}\ntrusted-host = 127.0.0.1")
    return "2.0"


def by_client_certificate(company: Company) -> str:
    company.secure(client=True)
    client = client_certificate(company.folder)
    company.configure(
        f"index-url = {https(company.url)}\ncert = {company.folder}/ca.pem\nclient-cert = {client}"
    )
    return "2.0"


def by_login_in_the_url(company: Company) -> str:
    company.configure(f"index-url = {company.index.require_auth('ada', 's3cret/@')}")
    return "2.0"


def by_netrc(company: Company) -> str:
    company.index.require_auth("ada", "s3cret")
    company.write("user/.netrc", "machine 127.0.0.1 login ada password s3cret\n")
    company.configure(f"index-url = {company.url}")
    return "2.0"


def by_netrc_elsewhere(company: Company) -> str:
    company.index.require_auth("ada", "s3cret")
    file = company.write("netrc", "machine 127.0.0.1 login ada password s3cret\n")
    company.configure(f"index-url = {company.url}", NETRC=str(file))
    return "2.0"


def by_keyring(company: Company) -> str:
    company.index.require_auth("ada", "s3cret")
    (company.field.folder / "programs").mkdir()
    company.write("programs/keyring", KEYRING, 0o755)
    path = f"{company.field.folder}/programs:{company.field.environ['PATH']}"
    url = company.url.replace("//", "//ada@")
    company.configure(f"index-url = {url}\nkeyring-provider = subprocess", PATH=path)
    return "2.0"


def by_proxy(company: Company) -> str:
    proxy = company.stack.enter_context(running_proxy("eve:pa55"))
    company.configure(f"index-url = {company.url}\nproxy = {proxy.url}")
    company.asked = proxy.asked
    return "2.0"


def by_proxy_and_tls(company: Company) -> str:
    company.secure()
    proxy = company.stack.enter_context(running_proxy())
    company.configure(
        f"index-url = {https(company.url)}\ncert = {company.folder}/ca.pem\nproxy = {proxy.url}"
    )
    company.asked = proxy.asked
    return "2.0"


WAYS = [
    *(by_index, by_extra_index, by_extra_index_that_refuses_what_it_lacks, by_folder_alone),
    *(by_variables, by_constraint, by_authority, by_trusted_host, by_client_certificate),
    *(by_login_in_the_url, by_netrc, by_netrc_elsewhere, by_keyring, by_proxy, by_proxy_and_tls),
]

SEEN_BY_DOCTOR = {
    **dict.fromkeys((by_client_certificate, by_netrc_elsewhere, by_proxy, by_proxy_and_tls), "ok"),
    # It starts no program for credentials.
    by_keyring: "warning",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_makes_pip_install_makes_a_launch_work(
    company: Company, way: Callable[[Company], str]
) -> None:
    expected = way(company)
    assert company.by_pip("lantern") == expected
    if company.asked is not None:
        company.asked.clear()
    assert company.by_launch("lantern") == expected
    assert company.asked is None or company.asked != []
    if way in SEEN_BY_DOCTOR:
        assert company.field.run("doctor").check("index")["verdict"] == SEEN_BY_DOCTOR[way]


def test_what_an_operator_says_to_uv_is_done_or_named(company: Company) -> None:
    build_wheel(company.folder / "wheels", "lantern", "3.0rc1", requires=["wick"])
    constraints = company.write("constraints.txt", "lantern<2.5\n", 0o644)
    company.configure("")
    company.field = company.field.having(UV_DEFAULT_INDEX=company.url, UV_PRERELEASE="allow")
    assert company.by_launch("lantern") == "3.0rc1"
    company.field = company.field.having(UV_CONSTRAINT=str(constraints), UV_RESOLUTION="lowest")
    said = company.launch("lantern")
    assert "UV_RESOLUTION is not honoured" in " ".join(said.document["warnings"])
    assert company.by_launch("lantern") == "2.0"
    # This index does not tell when anything was uploaded.
    company.field = company.field.having(UV_EXCLUDE_NEWER="2020-01-01")
    refused = company.launch("lantern")
    assert refused.status == 5 and "upload" in refused.output


LOGIN = b"<html><title>Sign in</title><form method=post><input type=password name=p></form></html>"


def answer_403(index: Index) -> None:
    index.fail("/simple/*", 403)


def answer_404(index: Index) -> None:
    index.fail("/simple/*", 404)


def answer_429(index: Index) -> None:
    index.fail("/simple/*", 429)


def answer_login(index: Index) -> None:
    index.replace("/simple/*", LOGIN)


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (answer_403, "warning", "403"),
        (answer_404, "warning", "index"),
        (answer_429, "failed", "no more requests"),
        (answer_login, "failed", "login"),
    ],
)
def test_an_index_that_does_not_serve_is_named_with_what_is_wrong(
    company: Company, answer: Callable[[Index], Any], verdict: str, words: str
) -> None:
    company.configure(f"index-url = {company.url}")
    answer(company.index)
    said = company.launch("lantern")
    assert said.status == 5
    error = said.error
    assert words in f"{error['message']} {error['details'].get('hint')}"
    check = company.field.run("doctor").check("index")
    assert check["verdict"] == verdict and check["hint"]


def test_an_index_without_hashes_and_lengths_serves(company: Company) -> None:
    company.index.without_hashes()
    company.configure(f"index-url = {company.url}")
    assert company.by_pip("lantern") == "2.0"
    assert company.by_launch("lantern") == "2.0"
