from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xinference_venv._util.redact import HIDDEN, redact_text, redact_url, secrets_of

# Between sevens, so that no secret is a part of the texts around it.
SECRETS = st.text(min_size=4, max_size=40).map(lambda text: f"7{text}7").filter(str.isprintable)
TEMPLATES = st.sampled_from(
    [
        "https://user:{}@host/simple",
        "https://{}@host/simple",
        "git+https://user:{}@host:8443/org/name.git@v1.0#egg=name",
        "https://host/name.whl?sig={}&expires=1",
        "https://host/name.whl?{}#sha256=abc",
    ]
)


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://host/simple", "https://host/simple"),
        ("https://user:pass@host/simple", "https://****@host/simple"),
        ("https://token@host:8443/simple", "https://****@host:8443/simple"),
        ("https://user:p@ss@host/simple", "https://****@host/simple"),
        ("https://user:it's@host/simple", "https://****@host/simple"),
        ("https://user:pa/ss@host/simple", "https://****@host/simple"),
        ("https://user:pa?ss#1@host/simple", "https://****@host/simple"),
        ("http://[::1]:8080/name@1.0", "http://[::1]:8080/name@1.0"),
        ("https://host:8443/name@1.0", "https://host:8443/name@1.0"),
        (
            "git+https://user:pass@host/org/name.git@v1#egg=name&subdirectory=a",
            "git+https://****@host/org/name.git@v1#egg=name&subdirectory=a",
        ),
        (
            "https://host/a.whl?sig=abc&se=2#sha256=12",
            "https://host/a.whl?sig=****&se=****#sha256=12",
        ),
        ("https://host/a.whl?abc", "https://host/a.whl?****"),
        ("https://host/?next=https://u:p@other/?sig=abc", "https://host/?next=****"),
        ("file:///srv/wheels", "file:///srv/wheels"),
        ("/srv/wheels", "/srv/wheels"),
    ],
)
def test_a_url_loses_its_credentials_and_nothing_else(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted


@pytest.mark.parametrize(
    ("line", "redacted"),
    [
        (
            "error: Failed to fetch `https://u:p@host/simple/`, caused by: 401",
            "error: Failed to fetch `https://****@host/simple/`, caused by: 401",
        ),
        ('--index-url="https://u:p@host"', '--index-url="https://****@host"'),
        (
            "https://a:b@one/simple,https://c:d@two/simple",
            "https://****@one/simple,https://****@two/simple",
        ),
        ("Authorization: Basic dTpw", "Authorization: ****"),
        ("proxy-authorization=Bearer abc", "proxy-authorization=****"),
        (
            '{"authorization": "Basic dTpw", "accept": "*/*"}',
            '{"authorization": "****", "accept": "*/*"}',
        ),
        ("Digest: no\nPRIVATE-TOKEN: abc\nHost: x", "Digest: no\nPRIVATE-TOKEN: ****\nHost: x"),
        ("error: unexpected token: `]`", "error: unexpected token: `]`"),
    ],
)
def test_a_line_loses_the_credentials_of_its_urls_and_headers(line: str, redacted: str) -> None:
    assert redact_text(line) == redacted


@pytest.mark.parametrize("spelling", ["p@ss wörd", "p%40ss%20w%C3%B6rd", "p%40ss w%c3%b6rd"])
def test_a_known_secret_is_hidden_however_it_is_encoded(spelling: str) -> None:
    secrets = secrets_of(["https://user:p%40ss%20w%C3%B6rd@host/simple"])
    assert secrets == {"p@ss wörd"}
    assert redact_text(f"login with {spelling}!", secrets) == f"login with {HIDDEN}!"
    assert redact_text(f"login with {spelling}!", ["p%40ss%20w%C3%B6rd"]) == f"login with {HIDDEN}!"


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    assert redact_text("hunter2plus", ["hunter2", "hunter2plus"]) == HIDDEN


def test_secrets_are_passwords_tokens_and_signatures_but_no_short_words() -> None:
    urls = [
        "https://someone:password@host/simple",
        "https://__token@host/simple",
        "https://emptypass:@host/simple",
        "name @ git+https://someone:other%2Fone@host/name.git@v1.0",
        "https://host/a.whl?sig=0123456789&download=true",
        "https://ab:abc@host/simple",
        "https://user:%FFbytes@host/simple",
    ]
    assert secrets_of(urls) == {
        "password",
        "__token",
        "emptypass",
        "other/one",
        "0123456789",
        "%FFbytes",
    }


@given(secret=SECRETS, template=TEMPLATES, safe=st.sampled_from(["", "!$'()*+,;=", "~"]))
def test_no_credential_of_a_url_is_left_in_a_line(secret: str, template: str, safe: str) -> None:
    encoded = quote(secret, safe="" if "?" in template else safe)
    url = template.format(encoded)
    line = f"uv: could not fetch '{url}', trying without {secret} and {encoded}"
    for redacted in (redact_url(url), redact_text(line, secrets_of([url]) | {secret})):
        assert secret not in redacted
        assert encoded not in redacted


@given(text=st.text())
def test_text_without_a_url_or_header_is_unchanged(text: str) -> None:
    assume("://" not in text)
    assert redact_text(text) == text


PIECES = st.sampled_from(
    ["https://", "git+ssh://", "://", "a", "b:c", ":1", "@", "/", "?", "#", "=", "&", ";", "'"]
) | st.sampled_from(['"', "[", "]", ",", " ", "\n", "%40", "*", "Authorization", ": ", "\\"])


@given(
    pieces=st.lists(PIECES, max_size=30),
    secrets=st.lists(st.text("abc/@:%40", min_size=4, max_size=8), max_size=3),
)
def test_redacting_twice_is_redacting_once(pieces: list[str], secrets: list[str]) -> None:
    once = redact_text("".join(pieces), secrets)
    assert redact_text(once, secrets) == once


@pytest.mark.parametrize("piece", ["a", "a://", "a://b:c", "?", "a://@", "Authorization:\\"])
def test_a_hostile_line_of_a_megabyte_does_not_hang_the_redaction(piece: str) -> None:
    # A pattern that is quadratic somewhere would take hours here.
    line = piece * (1_000_000 // len(piece))
    assert redact_text(f"{line} https://user:password@host", ["secret"]).endswith("****@host")
