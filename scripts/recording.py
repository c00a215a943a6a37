"""Records commands as a picture: what a terminal of 80 columns shows of them, as SVG.

usage: python scripts/recording.py OUTPUT.svg < COMMANDS

A line of the input is a command, which bash runs in a terminal of its own; what it prints is shown
as it is. The picture of README.md is that of the commands in docs/pictures/first-launch.txt.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable
from html import escape
from pathlib import Path

COLUMNS = 80
_ROWS = 40
_LINE, _ADVANCE, _MARGIN, _BAR = 19, 8.43, 18, 34
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_PROMPT = "$ "


def run(command: str) -> list[str]:
    """What a command prints on a terminal; raises `CalledProcessError` where it fails."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["/bin/bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(COLUMNS)},
    )
    os.close(terminal)
    printed = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:
            # Linux ends the reading of a terminal that nobody writes to with EIO.
            break
        if not part:
            break
        printed += part
    os.close(main)
    text = _CONTROL.sub("", printed.decode("utf-8", "replace"))
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command, text)
    return text.splitlines()


def record(commands: Iterable[str]) -> list[str]:
    """The lines of a session: each command behind a prompt, then what it printed."""
    shown: list[str] = []
    for command in commands:
        shown += [_PROMPT + command, *run(command), ""]
    return shown[:-1]


def draw(lines: Iterable[str]) -> str:
    """The picture: light on dark, without a font or anything else from another host."""
    lines = list(lines)
    widest = max(COLUMNS, *map(len, lines))
    width = round(2 * _MARGIN + widest * _ADVANCE)
    height = _BAR + _MARGIN + len(lines) * _LINE
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img">',
        "<title>A terminal: the commands and what they print</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#16191f"/>',
        *(
            f'<circle cx="{_MARGIN + 16 * number}" cy="16" r="5" fill="{colour}"/>'
            for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
        ),
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"'
        ' font-size="14" fill="#d7dae0">',
    ]
    for number, line in enumerate(lines):
        place = f'x="{_MARGIN}" y="{_BAR + _LINE * (number + 1) - 5}"'
        if line.startswith(_PROMPT):
            drawn.append(f'<text {place} fill="#8fd18f">{escape(line)}</text>')
        elif line:
            # Each line as wide as its characters, whatever font is found.
            length = f'textLength="{len(line) * _ADVANCE:.1f}"'
            # Browsers make one of several spaces, whatever `xml:space` says.
            text = escape(line).replace(" ", "\N{NO-BREAK SPACE}")
            drawn.append(f"<text {place} {length}>{text}</text>")
    return "\n".join([*drawn, "</g>", "</svg>", ""])


def main(output: Path) -> None:
    """Record what comes on standard input."""
    commands = [line for line in sys.stdin.read().splitlines() if line.strip()]
    output.write_text(draw(record(commands)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
