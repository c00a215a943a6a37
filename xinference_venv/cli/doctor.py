"""`doctor`: what is wrong with this host, or with those of a cluster, and what to do about it."""

from __future__ import annotations

import os

import click

from xinference_venv.cli.common import (
    check_worker_option,
    json_option,
    on_cluster,
    on_workers,
    show,
    with_client,
)
from xinference_venv.cli.render.cluster import unreachable_error
from xinference_venv.cli.render.diagnosis import diagnosed
from xinference_venv.diagnosis.checks import Diagnoses, Verdict, worst


@click.command()
@on_workers
@json_option
def doctor(worker_ip: str | None, as_json: bool) -> int:
    """Look for what is wrong with this host, and say what to do about it.

    uv, interpreters, the packages of the host, indexes, the file system, free space, the clock,
    the environments that are there. Nothing is changed. On a cluster each worker examines its own
    host, and the hosts are compared. The exit code is 1 when a check failed; a warning does not
    count.
    """
    check_worker_option()
    answer = (
        with_client(lambda client: client.supervisor.diagnose(worker_ip))
        if on_cluster()
        else _of_this_host()
    )
    code = show(
        answer, lambda: diagnosed(answer), as_json, unreachable_error(answer, only_looks=True)
    )
    checks = [check for each in answer.list for check in each.checks]
    return 1 if worst([*checks, *answer.cluster]) is Verdict.FAILED else code


def _of_this_host() -> Diagnoses:
    """Without any actor: what is wrong may be that none can be started."""
    from xinference_venv.cli import session
    from xinference_venv.diagnosis.diagnose import examine

    return Diagnoses(list=(session.run(examine(dict(os.environ))),))
