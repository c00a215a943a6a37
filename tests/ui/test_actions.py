"""What the page can do to a cluster: each change shows its plan first, over real workers."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.daemons import eventually
from tests.ui.browser import Browser
from tests.ui.cluster import Cluster, hold, killed_worker
from tests.wheels import build_wheel

pytestmark = pytest.mark.uv


@pytest.fixture(scope="module", autouse=True)
def launched(running: Cluster) -> None:
    """Models that nobody uses, on the first worker."""
    build_wheel(running.wheels, "spark", "1.0", data={"spark.bin": b"whole"})
    first = [running.workers[0].address]
    for model, version in (("ash", "1.0"), ("birch", "1.0"), ("cedar", "2.0")):
        running.launch(model, f"lantern=={version}", workers=first)
    running.launch("spark", "spark", workers=first)


def _models(page: Browser) -> list[str]:
    return [row[0] for row in page.rows()]


def _choose(page: Browser, *models: str) -> None:
    """Open the list and choose the environments of these models."""
    page.open()
    page.wait(lambda: set(models) <= set(_models(page)))
    for model in models:
        [box] = page.all(f"tbody input.pick[aria-label^='Choose {model} ']")
        box.click()
    page.shows(f"{len(models)} chosen", ".chosen")


def test_several_environments_are_removed_together_and_their_plan_is_shown_first(
    page: Browser, running: Cluster
) -> None:
    _choose(page, "ash", "birch")
    page.click("Remove", ".chosen")
    page.shows("Remove 2 environments", "dialog h2")
    page.shows("Would be removed", "dialog")
    assert {"ash", "birch"} <= {each.text.split()[0] for each in page.all("dialog li strong")}
    page.click("Keep it", "dialog")
    page.wait(lambda: not page.all("dialog"))
    assert running.environments("ash") != []
    page.click("Remove", ".chosen")
    page.click("Remove", "dialog")
    page.shows("2 environments are gone", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: not {"ash", "birch"} & set(_models(page)))
    # What is gone is not chosen any more.
    page.wait(lambda: not page.one(".chosen").is_displayed())
    assert running.environments("birch") == []


def test_files_stay_only_for_models_that_stay(page: Browser, running: Cluster) -> None:
    first = [running.workers[0].address]
    for model in ("elm", "fir", "yew"):
        running.launch(model, "lantern==1.0", "spark", workers=first)
    _choose(page, "elm", "fir")
    page.click("Remove", ".chosen")
    page.shows("its files stay for yew", "dialog")
    assert "fir" not in page.text("dialog").split("its files stay for")[1].splitlines()[0]
    page.click("Keep it", "dialog")
    _choose(page, "elm", "fir", "yew")
    page.click("Remove", ".chosen")
    page.shows("Would be removed", "dialog")
    assert "its files stay" not in page.text("dialog")
    page.click("Keep it", "dialog")
    page.wait(lambda: page.focused.accessible_name == "Remove")
    # What was done from the keyboard goes on from where it was.
    page.click("Verify", ".chosen")
    page.click("Verify", "dialog .dialog-foot")
    page.shows("All is whole.", "dialog")
    page.keys(Keys.ESCAPE)
    page.wait(lambda: page.focused.accessible_name == "Verify")
    page.click("Remove", ".chosen")
    page.click("Remove", "dialog")
    page.shows("3 environments are gone", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: page.focused.tag_name == "h1")


def test_what_is_in_use_keeps_one_of_the_models_that_share_it(
    page: Browser, running: Cluster
) -> None:
    hold(running, "owner")
    [owner] = running.environments("owner")
    running.launch("twin", "lantern==1.0", workers=[owner["worker_address"]])
    [owner] = running.environments("owner")
    sharing = [each["model_name"] for each in owner["shared_with"]]
    assert "twin" in sharing
    _choose(page, "owner", *sharing)
    page.click("Remove", ".chosen")
    page.shows("Nothing is removed: it is in use", "dialog")
    page.shows("chosen together with", "dialog")
    assert not [each for each in page.all("dialog h4") if each.text != "Refused"]
    page.click("Keep it", "dialog")
    # One of them can go: the other one keeps what is in use.
    page.one("tbody input.pick[aria-label^='Choose owner ']").click()
    page.click("Remove", ".chosen")
    page.click("Remove", "dialog")
    page.shows("gone", "dialog")
    assert running.environments("twin") == []
    assert len(running.environments("owner")) == 1
    # What the tests behind this one use is shared with none of it.
    page.click("Done", "dialog")
    running.ask.delete("/v1/virtualenvs", params={"model_name": "owner", "force": True})
    assert running.environments("owner") == []


def test_of_several_those_that_are_not_in_use_can_be_removed(
    page: Browser, running: Cluster
) -> None:
    hold(running, "held")
    _choose(page, "cedar", "held")
    page.click("Remove", ".chosen")
    page.shows("1 of 2 is in use, and stays", "dialog")
    page.click("Remove 1 that is not in use", "dialog")
    page.shows("1 environment is gone", "dialog")
    assert running.environments("cedar") == []
    assert len(running.environments("held")) == 1


def test_a_broken_environment_is_found_and_repaired(page: Browser, running: Cluster) -> None:
    [entry] = running.environments("spark")
    [packages] = running.ask.get("/v1/virtualenvs/packages", params={"model_name": "spark"}).json()[
        "list"
    ]
    [spark] = [each for each in packages["packages"] if each["name"] == "spark"]
    tree = Path(spark["places"][0]["path"])
    [data] = tree.rglob("spark.bin")
    data.chmod(0o644)
    data.unlink()
    page.open(
        "environment", model="spark", python=entry["python_version"], worker=entry["worker_address"]
    )
    page.click("Verify")
    page.shows("nothing is changed", "dialog")
    page.click("Verify", "dialog")
    page.shows("1 environment is broken", "dialog")
    page.shows("spark.bin", "dialog")
    assert not data.exists()
    page.click("Repair 1 environment", "dialog")
    page.shows("1 environment was repaired", "dialog")
    [after] = running.environments("spark")
    assert after["state"] == "ready"


def test_garbage_is_collected_after_its_plan(page: Browser, running: Cluster) -> None:
    second = running.workers[1].address
    running.launch("waste", "lantern==2.0", workers=[second])
    page.open("disk")
    page.wait(lambda: len(page.all(".card")) == 3)
    page.click("Collect garbage")
    page.choose("#gc-worker", second)
    page.type("#gc-unused", "0")
    page.click("Show what would go", "dialog")
    page.shows("would be freed", "dialog")
    page.shows("waste", "dialog")
    page.click("Keep everything", "dialog")
    assert len(running.environments("waste")) == 1
    page.click("Collect garbage")
    page.choose("#gc-worker", second)
    page.type("#gc-unused", "0")
    page.click("Show what would go", "dialog")
    page.click("Delete", "dialog")
    page.shows("were freed", "dialog")
    assert running.environments("waste") == []
    assert len(running.environments("spark")) == 1


def test_a_lease_of_a_living_process_is_released_by_force_alone(
    page: Browser, running: Cluster
) -> None:
    hold(running, "kept")
    page.open("leases")
    page.wait(lambda: "kept" in _models(page))
    [lease] = [row for row in page.rows() if row[0] == "kept"]
    assert lease[4] == "alive"
    [release] = page.all("tbody button[aria-label^='Release the lease of kept']")
    release.click()
    page.shows("Nothing is released: its process is running", "dialog")
    page.click("Show what force would do", "dialog")
    page.shows("its files may be deleted while it runs", "dialog")
    page.click("Release by force", "dialog")
    page.shows("1 lease was released", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: "kept" not in _models(page))


def test_a_drained_worker_gets_no_launches_until_it_is_used_again(
    page: Browser, running: Cluster
) -> None:
    first, second = (each.address for each in running.workers)
    page.open("workers")
    page.wait(lambda: len(page.rows()) == 2)
    page.click(f"Drain: {first}")
    page.shows("What runs there goes on", "dialog")
    page.click("Drain", "dialog")
    page.shows(f"{first} gets no new launches", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: [row[2] for row in sorted(page.rows())] == ["drained", "alive"])
    for number in range(3):
        running.launch(f"elsewhere-{number}", "lantern==2.0")
        assert running.environments(f"elsewhere-{number}")[0]["worker_address"] == second
    page.click(f"Use again: {first}")
    page.click("Use it again", "dialog")
    page.wait(lambda: {row[2] for row in page.rows()} == {"alive"})


def test_the_catalogue_leads_to_the_form(page: Browser) -> None:
    page.open("models", text="magika-1")
    page.wait(lambda: _models(page) == ["magika-1"])
    page.click("Launch magika-1")
    page.wait(lambda: page.one("#launch-model").get_property("value") == "magika-1")


def test_the_doctor_tells_what_it_found_on_each_host(page: Browser, running: Cluster) -> None:
    page.open("doctor")
    page.wait(lambda: len(page.all(".card")) == 3)
    names = [each.accessible_name for each in page.all(".card")]
    assert names[0] == "The cluster"
    assert sorted(names[1:]) == sorted(each.address for each in running.workers)
    page.wait(lambda: page.all(".notices .notice"))
    page.script("for (const each of document.querySelectorAll('details')) each.open = true")
    page.shows("uv")


def test_a_worker_that_is_gone_is_forgotten(page: Browser, running: Cluster) -> None:
    victim = killed_worker(page, running)
    page.click(f"Forget: {victim}")
    page.shows("Its files stay", "dialog")
    page.click("Forget", "dialog")
    page.shows(f"{victim} is out of the cluster", "dialog")
    page.click("Done", "dialog")
    page.wait(lambda: victim not in page.text("tbody"))
    listed = running.ask.get("/v1/workers").json()["list"]
    assert victim not in [each["worker_address"] for each in listed]


def test_an_error_of_all_workers_is_shown_once_and_the_launch_can_be_done_again(
    page: Browser, running: Cluster
) -> None:
    # One worker is enough, so the failure of the first does not cancel the second.
    body = {
        "model_name": "late",
        "virtualenv": {"packages": ["late-package"]},
        "everywhere": True,
        "require": 1,
    }
    job = running.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    eventually(lambda: running.ask.get(f"/v1/jobs/{job}").json()["phase"] == "failed")
    page.open("job", id=job, model="late")
    page.shows("The requirements could not be resolved")
    assert len(page.all(".notice.bad")) == 1
    page.shows("On 2 workers:", ".notice.bad")
    # The phase in which a worker stopped is the one that its badge ended in.
    for card in page.all(".card"):
        assert card.find_element("css selector", ".badge").text == "failed"
        [stopped] = card.find_elements("css selector", ".steps .stopped")
        assert stopped.text.startswith("resolving")
        assert not card.find_elements("css selector", ".steps .now")
    page.shows("What was asked for")
    page.shows("late-package", ".about")
    pictures = page.all(".timeline svg")
    assert len(pictures) == 2
    assert "resolving" in str(pictures[0].get_attribute("aria-label"))

    build_wheel(running.wheels, "late-package", "1.0")
    page.click("Launch the same again")
    page.shows("late-package", "dialog")
    page.click("Launch the same again", "dialog")
    page.shows("Ready: launches of this model use this environment.")
    assert job not in page.driver.current_url
    eventually(lambda: len(running.environments("late")) == 2)
    page.click("Show it")
    page.wait(lambda: "#/environment?" in page.driver.current_url)
    page.shows("late-package")


def test_a_launch_that_failed_is_edited_and_launched_again(page: Browser, running: Cluster) -> None:
    second = running.workers[1].address
    body = {"model_name": "edited", "virtualenv": {"packages": ["lantern==7"]}, "workers": [second]}
    job = running.ask.post("/v1/virtualenvs", json=body).json()["job_id"]
    eventually(lambda: running.ask.get(f"/v1/jobs/{job}").json()["phase"] == "failed")
    page.open("job", id=job, model="edited")
    page.click("Edit and launch again")
    page.wait(lambda: page.text(".chips") == "lantern==7")
    page.click("Take out lantern==7")
    page.type("#launch-packages", "lantern==2.0")
    page.wait(lambda: page.one("#launch-start").is_enabled())
    page.one("#launch-start").click()
    page.shows("Ready")
    assert running.environments("edited")[0]["worker_address"] == second


def _jobs(page: Browser) -> dict[str, str]:
    """The state of each model's newest job."""
    return {row[0]: row[2] for row in reversed(page.rows())}


def test_models_of_the_catalogue_are_made_ahead_on_every_worker_after_their_plan(
    page: Browser, running: Cluster
) -> None:
    # Of no other model: an environment that they share may be in use by them.
    block = {"packages": ["wick==1.0", "tomli-w==0.1"]}
    for worker in running.workers:
        folder = worker.home / "virtualenv" / "models"
        folder.mkdir(parents=True, exist_ok=True)
        spec = {"model_name": "of-its-own", "virtualenv": block}
        (folder / "of-its-own.json").write_text(json.dumps(spec))
    page.open("models")
    page.wait(lambda: {"of-its-own", "magika-1"} <= set(_models(page)))
    page.one("input[aria-label='Choose of-its-own']").click()
    page.one("input[aria-label='Choose magika-1']").click()
    page.shows("2 chosen", ".chosen")
    page.click("Make ahead", ".chosen")
    page.click("Show what would be done", "dialog")
    page.shows("packages to install", "dialog")
    # The index has nothing for the other one, which keeps nothing from being made.
    page.one("dialog .notice.bad")
    assert running.environments("of-its-own") == []
    page.click("Make 1 environment", "dialog")
    page.wait(lambda: "Download only" in _jobs(page).get("of-its-own", ""))
    page.wait(lambda: _jobs(page).get("of-its-own", "").startswith("ready"))
    assert "magika-1" not in _jobs(page)
    made = running.environments("of-its-own")
    assert {each["worker_address"] for each in made} == {each.address for each in running.workers}
    # A prefetch leaves nothing in use.
    eventually(
        lambda: not any(each["leases"] for each in running.environments("of-its-own")),
        lambda: str(running.environments("of-its-own")),
    )


def test_an_environment_is_made_ahead_on_another_worker_as_it_was_launched(
    page: Browser, running: Cluster
) -> None:
    second = running.workers[1].address
    running.launch("elm", "lantern==2.0", workers=[running.workers[0].address])
    _choose(page, "elm")
    page.click("Make ahead", ".chosen")
    page.choose("#prefetch-where", "named")
    page.click("Show what would be done", "dialog")
    page.shows("Choose at least one worker", "dialog")
    [label] = [each for each in page.all("dialog .options label") if second in each.text]
    label.click()
    page.click("Show what would be done", "dialog")
    page.shows("to install", "dialog")
    page.click("Make 1 environment", "dialog")
    page.wait(lambda: _jobs(page).get("elm", "").startswith("ready"))
    found = {each["worker_address"]: each for each in running.environments("elm")}
    assert second in found
    assert len({each["lock_digest"] for each in found.values()}) == 1


def test_the_page_of_an_environment_has_the_command_that_carries_it_elsewhere(
    page: Browser, running: Cluster, tmp_path: Path
) -> None:
    running.launch("fir", "lantern==2.0", workers=[running.workers[0].address])
    page.open("environments", model="fir")
    page.click("fir", "tbody")
    page.click("Carry it to another cluster")
    [export, import_] = [each.text for each in page.all(".command pre")]
    assert import_ == "xinference-venv import fir.tar --supervisor HOST:PORT"
    page.button("Copy: Write its lock and wheels to one file, with a network:")
    words = shlex.split(export.replace("HOST:PORT", running.supervisor.address))[1:]
    subprocess.run(
        [sys.executable, "-m", "xinference_venv", *words],
        env={**running.running.environ},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "fir.tar").stat().st_size > 0
