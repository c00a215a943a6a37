"""Keeping credentials out of whatever is logged, stored or shown, at every stage.

In comes a URL or a line of text, out goes the same without secrets: the user information of
every URL (RFC 3986), the values of its query, the values of headers that authenticate, and
secrets that the caller knows. Where it is unclear what belongs to a secret, more is hidden
rather than less. All functions are idempotent, and their time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import unquote

HIDDEN = "****"

# Shorter secrets occur in ordinary words and would hide everything. A query holds ordinary
# words too (``?download=true``), but no token that is as short as they are.
MIN_SECRET_LENGTH = 4
MIN_QUERY_SECRET_LENGTH = 8

# A scheme is bounded so that a long word is not scanned from each of its letters.
_URL = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s"<>]*""")
_USER_INFORMATION = re.compile(r"://([^/?#]*)@")
# "https://user:pa/ss@host": a password that is not encoded looks like a port without digits.
_BROKEN_USER_INFORMATION = re.compile(r"://[^/?#@:\[]*:(?![0-9]*(?:[/?#]|\Z))")
_QUERY = re.compile(r"\?([^#]*)")
_PARAMETER = re.compile(r"[^&;]+")
_HEADER = re.compile(
    r"""(?<![\w-])
    (?P<name>(?:proxy-)?authorization|private-token|job-token|deploy-token
        |x-auth-token|x-api-key|x-jfrog-art-api)
    (?P<separator>[\\"']*\s*[:=][^\S\r\n]*)
    (?:(?P<quote>\\?["'])(?:(?!(?P=quote)).)+|[^\s"'\\].*)""",
    re.IGNORECASE | re.VERBOSE,
)
_SECRET_VARIABLE = re.compile(
    r"(?:token|password|passwd|passphrase|secret|(?:api|access|secret|private)_?key)$",
    re.IGNORECASE,
)


def redact_url(url: str) -> str:
    """Return the URL with its user information and the values of its query hidden.

    Scheme (``git+https``), host, path and fragment (``#egg=name``) stay. Text that is not a
    URL stays as it is.
    """
    return _URL.sub(lambda match: _redact_url_match(match[0]), url)


def redact_text(text: str, secrets: Collection[str] = ()) -> str:
    """Return the text with the credentials of every URL and header in it hidden.

    ``secrets`` are literal strings to be hidden as well, wherever and however percent-encoded
    they occur.
    """
    text = redact_url(text)
    text = _HEADER.sub(
        lambda match: match["name"] + match["separator"] + (match["quote"] or "") + HIDDEN, text
    )
    spellings = {
        each for secret in secrets for each in (secret, unquote(secret)) if each.strip("*")
    }
    if not spellings:
        return text
    # The longest first, so that a secret that begins like another one is hidden whole.
    ordered = sorted(spellings, key=lambda each: (-len(each), each))
    return re.sub("|".join(map(_however_encoded, ordered)), HIDDEN, text)


def secrets_of(urls: Iterable[str]) -> frozenset[str]:
    """Return the secrets in URLs, or in lines that contain URLs, decoded, for `redact_text`.

    These are passwords, user names that stand without a password (which are tokens), and
    values of queries; but none so short that it occurs in ordinary words.
    """
    found: set[str] = set()
    for match in (match for url in urls for match in _URL.finditer(url)):
        for user_information in _USER_INFORMATION.findall(match[0]):
            user, _, password = user_information.partition(":")
            secret = _decoded(password or user)
            if len(secret) >= MIN_SECRET_LENGTH:
                found.add(secret)
        for query in _QUERY.findall(match[0]):
            for parameter in _PARAMETER.findall(query):
                key, equals, value = parameter.partition("=")
                secret = _decoded(value if equals else key)
                if len(secret) >= MIN_QUERY_SECRET_LENGTH:
                    found.add(secret)
    return frozenset(found)


def secrets_in_variables(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the values of variables that are secrets by their names, as ``HF_TOKEN``, line by
    line; but none so short that it occurs in ordinary words.
    """
    values = (value for name, value in environ.items() if _SECRET_VARIABLE.search(name))
    lines = (line.strip() for value in values for line in value.splitlines())
    return frozenset(line for line in lines if len(line) >= MIN_QUERY_SECRET_LENGTH)


def _redact_url_match(url: str) -> str:
    url = _USER_INFORMATION.sub(f"://{HIDDEN}@", url)
    before, at, after = url.rpartition("@")
    if broken := _BROKEN_USER_INFORMATION.search(before):
        url = f"{before[: broken.start()]}://{HIDDEN}{at}{after}"
    return _QUERY.sub(lambda match: "?" + _PARAMETER.sub(_redact_parameter, match[1]), url)


def _redact_parameter(match: re.Match[str]) -> str:
    key, equals, _ = match[0].partition("=")
    return f"{key}={HIDDEN}" if equals else HIDDEN


def _however_encoded(secret: str) -> str:
    """Return a pattern for the secret with any of its characters percent-encoded (RFC 3986)."""
    characters = []
    for character in secret:
        encoded = "".join(f"%{byte:02x}" for byte in character.encode(errors="surrogatepass"))
        characters.append(f"(?:{re.escape(character)}|(?i:{encoded}))")
    return "".join(characters)


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
