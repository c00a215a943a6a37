"""How many bytes a process has received over TCP, as the kernel counts them.

uv shows no bytes where it has no terminal (https://github.com/astral-sh/uv/issues/5720), and its
cache has what it unpacks, not what arrives. The kernel has the count of every connection
(sock_diag(7), ``tcpi_bytes_received``), whatever program has it open.

Comes in: a pid. Comes out: a number, or none where the system does not tell.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_INET_DIAG_INFO = 2
# Every state but TIME_WAIT (6) and LISTEN (10), which belong to no transfer.
_STATES = 0xFFF & ~(1 << 6 | 1 << 10)
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI48x")
_MESSAGE_BYTES = 72
_INODE_AT = 68
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVED_AT = 128
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(kw_only=True, slots=True)
class ReceivedBytes:
    """What one process and its descendants have received; connections that ended count on."""

    pid: int
    _seen: dict[int, int] = field(default_factory=dict)

    def now(self) -> int | None:
        """The bytes by now; None where the system does not tell. Blocks for a moment."""
        inodes = _sockets_of(self.pid)
        try:
            if inodes:
                for inode, received in _received():
                    if inode in inodes:
                        self._seen[inode] = max(received, self._seen.get(inode, 0))
        except (OSError, struct.error):
            return None
        return sum(self._seen.values())


def _sockets_of(pid: int) -> set[int]:
    """The inodes of the sockets that a process and its descendants have open."""
    found = set()
    with suppress(psutil.Error):
        head = psutil.Process(pid)
        for process in (head, *head.children(recursive=True)):
            folder = f"/proc/{process.pid}/fd"
            with suppress(OSError):
                for name in os.listdir(folder):
                    with suppress(OSError):
                        if is_socket := _SOCKET.fullmatch(os.readlink(f"{folder}/{name}")):
                            found.add(int(is_socket[1]))
    return found


def _received() -> Iterator[tuple[int, int]]:
    """Of every TCP connection of this network namespace: its inode, and the bytes received."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(
                family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, _STATES
            )
            head = _HEADER.pack(
                _HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0
            )
            kernel.send(head + request)
            ended = False
            while not ended:
                answer = kernel.recv(1 << 18)
                yield from received_in(answer)
                ended = _is_end(answer)


def received_in(answer: bytes) -> Iterator[tuple[int, int]]:
    """What the messages of an answer say: inode and bytes of each connection."""
    for kind, message in _messages(answer):
        if kind == _SOCK_DIAG_BY_FAMILY and len(message) >= _MESSAGE_BYTES:
            (inode,) = struct.unpack_from("=I", message, _INODE_AT)
            for name, value in _attributes(message[_MESSAGE_BYTES:]):
                if name == _INET_DIAG_INFO and len(value) >= _RECEIVED_AT + 8:
                    yield inode, struct.unpack_from("=Q", value, _RECEIVED_AT)[0]


def _is_end(answer: bytes) -> bool:
    return not answer or any(kind in (_DONE, _ERROR) for kind, _ in _messages(answer))


def _messages(answer: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, at)
        if length < _HEADER.size:
            return
        yield kind, answer[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(part: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(part):
        length, name = _ATTRIBUTE.unpack_from(part, at)
        if length < _ATTRIBUTE.size:
            return
        yield name, part[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
