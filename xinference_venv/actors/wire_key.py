"""The key of the actors' wire: whoever reaches a port without one can run code as its user.

xoscar unpickles what comes (cloudpickle), and with ``XOSCAR_AUTH_KEY`` only frames that are signed
with it. It reads the variable for every frame, so a key may be set at any time before the first.
"""

from __future__ import annotations

import os
import secrets

from xinference_venv.errors import InvalidInput
from xinference_venv.settings import WIRE_KEY_VARIABLE


def ensure_key() -> None:
    """Give this process, and the model processes that it starts, a random key, unless it has one.

    It stays for as long as the process runs, and is not shown in ``/proc/PID/environ``, which has
    the variables that a process was started with.
    """
    if not os.environ.get(WIRE_KEY_VARIABLE):
        os.environ[WIRE_KEY_VARIABLE] = secrets.token_hex(32)


def require_key(address: str, *, insecure: bool) -> None:
    """Raises `InvalidInput` unless this process has a key, or does without on purpose."""
    if insecure or os.environ.get(WIRE_KEY_VARIABLE):
        return
    raise InvalidInput(
        f"without a key, whoever reaches {address} can run code as this user: any other user of"
        " this machine, too",
        {
            "hint": f"set {WIRE_KEY_VARIABLE} to the same secret for every process of the cluster,"
            " like one that `openssl rand -hex 32` prints; or give --insecure if everyone who"
            " reaches the address may do anything"
        },
    )
