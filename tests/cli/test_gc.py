"""`gc` as people see it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import fakes
from tests.cli.conftest import Run
from tests.plain import of_json
from xinference_venv.cli import gc as gc_module
from xinference_venv.cli import main
from xinference_venv.errors import UvFailed
from xinference_venv.inventory.eviction import EnvUsage
from xinference_venv.inventory.gathered import Gathered
from xinference_venv.inventory.reports import CollectionReport

GIB = 2**30


def usage(model: str, **changes: Any) -> dict[str, Any]:
    made = EnvUsage(
        env_id=f"{model}-0123456789abcdef",
        keys=(fakes.key(model),),
        leases=(),
        busy=False,
        last_used=time.time() - 9 * 86_400 - 1,
        size_bytes=5 * GIB,
    )
    return {**made.to_dict(), **changes}


def report(**changes: Any) -> dict[str, Any]:
    return {
        "dry_run": False,
        "evict": [],
        "skipped": [],
        "in_use": [],
        "unneeded": [],
        "bytes_before": 20 * GIB,
        "bytes_after": 20 * GIB,
        "freed_bytes": 0,
        "max_bytes": None,
        "unmanaged": {"count": 0, "size_bytes": 0},
        "in_place": {"count": 0, "size_bytes": 0},
        "uv_cache": {
            "path": "/cache",
            "size_bytes": 30 * GIB,
            "shared_bytes": 20 * GIB,
            "pruned_bytes": 0,
            "error": None,
        },
        "worker_address": "127.0.0.1:1",
        **changes,
    }


Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run `gc` over a report that a worker gave; exit code and output."""

    def say(given: Mapping[str, Any], *words: str) -> tuple[int, str]:
        answer = of_json(Gathered[CollectionReport], {"list": [given]})
        monkeypatch.setattr(gc_module, "with_client", lambda _: answer)
        monkeypatch.setattr(gc_module, "look", lambda *_: answer)
        code = main(["gc", *words])
        return code, capsys.readouterr().out

    return say


def test_what_goes_is_named_with_the_reason_and_what_is_freed(say: Say) -> None:
    evict = [
        usage("old", reason="over limit", freed_bytes=GIB, linked_bytes=4 * GIB),
        usage("older", reason="unused", freed_bytes=5 * GIB, linked_bytes=0),
        usage("lost", reason="unneeded", freed_bytes=0, linked_bytes=0, keys=[]),
    ]
    unneeded = [{"kind": "built wheel", "path": "/s/wheels/0", "size_bytes": 1024}]
    given = report(evict=evict, unneeded=unneeded, freed_bytes=6 * GIB, max_bytes=15 * GIB)
    code, out = say(given)
    assert code == 0
    old, older, lost, wheel, freed, total, cache = out.splitlines()
    assert old == (
        "deleted: old (Python 3.11, engine vllm) [old-01234567], last used 9 days ago, to come down"
        " to 15.0 GiB: freed 1.00 GiB; 4.00 GiB stay, linked from uv's cache or elsewhere"
    )
    assert "older" in older and older.endswith("last used 9 days ago: freed 5.00 GiB")
    assert lost.startswith("deleted: environment [lost-0123456], which no model refers to")
    assert wheel == "deleted: /s/wheels/0, a built wheel that nothing needs: freed 1.00 KiB"
    assert freed == "freed in all: 6.00 GiB"
    assert total == "environments: 20.0 GiB before, 20.0 GiB after, more than 15.0 GiB"
    assert cache == "uv's cache: 30.0 GiB, 20.0 GiB of it linked from environments"


def test_a_dry_run_says_what_would_be(say: Say) -> None:
    evict = [usage("old", reason="unused", freed_bytes=GIB, linked_bytes=0)]
    _, out = say(report(evict=evict, dry_run=True, freed_bytes=GIB))
    assert out.startswith("would be deleted: old")
    assert ": would free 1.00 GiB" in out and "would be freed in all: 1.00 GiB" in out


def test_what_stays_is_named_with_its_users(say: Say) -> None:
    lease = fakes.lease(model_uid="glow-1").to_dict()
    given = report(
        in_use=[usage("running", leases=[lease]), usage("coming", busy=True)],
        skipped=[usage("late", reason="unused", why="it was launched after this was planned")],
        unmanaged={"count": 2, "size_bytes": GIB},
        in_place={"count": 1, "size_bytes": GIB},
    )
    _, out = say(given)
    nothing, running, coming, late, *_, left, in_place, _ = out.splitlines()
    assert nothing == "There is nothing to delete."
    assert running.endswith("5.00 GiB: in use by glow-1 (process 100 on a-host)")
    assert coming.endswith("being launched")
    assert late.endswith("[late-0123456]: it was launched after this was planned")
    assert left == "not collected: 2 environments of older versions, 1.00 GiB"
    assert in_place == (
        "not collected: 1 environment of Xinference, 1.00 GiB; `remove` deletes them"
    )


def test_a_cache_that_could_not_be_pruned_is_reported_by_text_and_exit_code(say: Say) -> None:
    error = UvFailed("the cache is in use")
    cache = {**report()["uv_cache"], "error": error.to_dict()}
    code, out = say(report(uv_cache=cache))
    assert code == error.exit_code
    assert out.endswith("could not be pruned: the cache is in use\n")
    pruned = {**report()["uv_cache"], "pruned_bytes": GIB}
    assert "uv's cache: 1.00 GiB pruned, 30.0 GiB" in say(report(uv_cache=pruned))[1]


def test_json_is_the_answer_as_it_came(say: Say) -> None:
    _, out = say(report(), "--json")
    assert json.loads(out)["list"] == [report()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-bytes", "lots"], "Invalid size 'lots'"),
        (["--older-than", "30"], "Invalid duration '30'"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gc", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.uv
def test_a_dry_run_leaves_what_no_model_refers_to(run: Run, spec: Path) -> None:
    launched = run("launch", "toy", "--spec", spec, "--json").json
    Path(launched["path"]).unlink()
    ran = run("gc", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("would be deleted: environment [")
    assert "], which no model refers to and no process uses: would free " in ran.out
    assert Path(launched["real_path"]).is_dir()
    assert run("gc").code == 0
    assert not Path(launched["real_path"]).exists()
