from __future__ import annotations

import io

from rich.console import Console

from xinference_venv.cli.render.progress import counts_text, event_line, following
from xinference_venv.inventory.jobs import JobEvent, Phase

_MIB = 1024 * 1024


def event(phase: Phase, message: str, where: str | None = None, **progress: int) -> JobEvent:
    return JobEvent(seq=1, at=0.0, phase=phase, message=message, worker_address=where, **progress)


EVENTS = (
    event(Phase.RESOLVING, "resolving 2 requirements"),
    event(Phase.RESOLVING, "resolving 2 requirements"),
    event(Phase.DOWNLOADING, "Downloading [torch]", done=0, total=2, total_bytes=_MIB),
    event(Phase.DOWNLOADING, "Downloading [torch]", done=1, total=2, total_bytes=_MIB),
    event(Phase.READY, "ready: /somewhere"),
)


def test_a_line_says_phase_message_and_how_far_it_is() -> None:
    assert event_line(EVENTS[0]) == "resolving 2 requirements"
    assert event_line(EVENTS[2]) == ("Downloading [torch] (0 of 2 packages, 0 B of 1.00 MiB)")
    assert event_line(event(Phase.QUEUED, "another launch resolves")) == (
        "queued: another launch resolves"
    )


def test_what_is_not_known_is_not_counted() -> None:
    assert counts_text(event(Phase.INSTALLING, "linking", done=0, total=0, total_bytes=0)) == ""
    assert counts_text(event(Phase.INSTALLING, "one", done=1, total=1)) == "1 of 1 package"


def test_bytes_that_arrive_have_a_rate_and_a_time_left() -> None:
    arriving = event(
        Phase.DOWNLOADING,
        "Downloading [torch]",
        done_bytes=_MIB,
        total_bytes=101 * _MIB,
        bytes_per_second=2 * _MIB,
        seconds_left=90,
    )
    assert counts_text(arriving) == "1.00 MiB of 101 MiB, 2.00 MiB/s, 1 min 30 s left"


def test_without_a_terminal_there_is_a_line_for_each_event_that_says_something_new() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, markup=False, highlight=False)
    with following(console) as show:
        for each in EVENTS:
            show(each)
    assert out.getvalue().splitlines() == [
        "resolving 2 requirements",
        "Downloading [torch] (0 of 2 packages, 0 B of 1.00 MiB)",
        "Downloading [torch] (1 of 2 packages, 0 B of 1.00 MiB)",
    ]


def test_on_a_terminal_a_bar_shows_the_phase_the_counts_and_the_message() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, force_interactive=True)
    with following(console) as show:
        for each in EVENTS[:4]:
            show(each)
    shown = out.getvalue()
    assert "downloading" in shown
    assert "1 of 2 packages, 0 B of 1.00 MiB" in shown
    assert "Downloading [torch]" in shown


ON_TWO = (
    event(Phase.RESOLVING, "resolving", "a:1"),
    event(Phase.QUEUED, "waiting", "b:2"),
    event(Phase.RESOLVING, "resolving", "a:1"),
    event(Phase.READY, "ready: /somewhere", "a:1"),
    event(Phase.FAILED, "no solution", "b:2"),
    event(Phase.FAILED, "2 workers failed"),
)


def test_a_line_of_a_launch_on_several_workers_begins_with_its_worker() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, markup=False, highlight=False)
    with following(console) as show:
        for each in ON_TWO:
            show(each)
    assert out.getvalue().splitlines() == [
        "a:1: resolving",
        "b:2: queued: waiting",
        "a:1: ready: /somewhere",
        "b:2: failed: no solution",
    ]


def test_on_a_terminal_each_worker_has_a_bar_of_its_own() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, force_interactive=True)
    with following(console) as show:
        for each in ON_TWO[:5]:
            show(each)
        before = out.tell()
        show(event(Phase.FAILED, "no solution", "b:2"))
        console.print("")
    last = out.getvalue()[before:]
    assert "starting" not in last
    assert "a:1  ready" in last
    assert "b:2  failed" in last
    assert "b:2: no solution" in last
