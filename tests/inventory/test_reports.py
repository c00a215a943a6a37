"""What reports say beyond what the workers answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import fakes
from xinference_venv.inventory.environments import Environment
from xinference_venv.inventory.failure import Failure
from xinference_venv.inventory.jobs import Phase, PreparedEnvironment
from xinference_venv.inventory.reports import Finding, JobReport, LaunchPlan, VerifiedEnvironment


@pytest.mark.parametrize(
    ("finding", "is_broken"),
    [
        (Finding(faults=None), False),
        (Finding(faults=()), False),
        (Finding(faults=("a file is missing",)), True),
        (Finding(faults=("a file is missing",), repaired=False, not_repaired="no space"), True),
        (Finding(faults=("a file is missing",), repaired=True), False),
    ],
)
def test_an_environment_is_broken_by_faults_that_were_not_repaired(
    finding: Finding, is_broken: bool
) -> None:
    environment = Environment.at("10.0.0.1:7000", fakes.entry())
    assert VerifiedEnvironment(environment=environment, finding=finding).is_broken is is_broken


def test_a_launch_has_ended_with_a_result_or_an_error() -> None:
    going = JobReport(job_id="a-job", phase=Phase.RESOLVING, events=(), result=None, error=None)
    ready = PreparedEnvironment(enabled=False, python="/usr/bin/python3")
    assert not going.has_ended
    assert replace(going, error=Failure()).has_ended
    assert replace(going, result=ready).has_ended


def test_a_plan_without_an_environment_is_explained_by_an_empty_tree() -> None:
    plan = LaunchPlan(enabled=False, spec=None, lock=None, worker_address="10.0.0.1:7000")
    assert (plan.explained().plan, plan.explained().tree.tree) == (plan, ())
    with_lock = replace(plan, lock=fakes.lock(fakes.wheel_package("lamp")))
    [branch] = with_lock.explained().tree.tree
    assert branch.distribution.name == "lamp"
