"""Where keys stand: links of ours, and what is none, in one walk."""

from __future__ import annotations

import os

import pytest

from tests.fakes import key
from tests.store.conftest import attached
from xinference_venv.store.keys import KeyPlace, env_of_link, key_places, names_in
from xinference_venv.store.store import Store


def test_every_key_is_reported_with_what_it_means(store: Store) -> None:
    root = store.layout.root
    env_id = attached(store, "numpy", of=key("b", "vllm"))
    attached(store, "numpy", of=key("a", None))
    (root / "v4" / "b" / "sglang" / "3.11").mkdir(parents=True)
    (root / "v4" / "b" / "file").write_text("")
    (root / "v3" / "stray").write_text("")
    (root / "v4" / "b" / "vllm" / ".3.12.being-made").symlink_to("anywhere")
    assert list(key_places(store.layout)) == [
        KeyPlace(key("b", "sglang"), f"{root}/v4/b/sglang/3.11", None),
        KeyPlace(key("b", "vllm"), f"{root}/v4/b/vllm/3.11", env_id),
        KeyPlace(key("a", None), f"{root}/v3/a/3.11", env_id),
    ]


def test_a_link_means_an_environment_only_if_it_leads_to_one_of_ours(store: Store) -> None:
    envs = str(store.layout.envs)
    folder = store.layout.root / "v3" / "m"
    folder.mkdir(parents=True)
    leading = {
        f"{envs}/an-env": "an-env",
        "../../store/envs/an-env": "an-env",
        "../../store/envs/gone/../an-env": "an-env",
        envs: None,
        "../../store/envs/an-env/bin": None,
        "../../store/trash/an-env": None,
        "/usr": None,
        "loop": None,
    }
    for number, (target, env_id) in enumerate(leading.items()):
        link = folder / str(number)
        os.symlink(target, link)
        assert env_of_link(str(link), envs) == env_id
    (folder / "file").write_text("")
    assert env_of_link(str(folder / "file"), envs) is None
    assert env_of_link(str(folder / "absent"), envs) is None


@pytest.mark.parametrize("name", ["absent", "file"])
def test_what_is_no_directory_has_no_entries(store: Store, name: str) -> None:
    (store.layout.root / "file").write_text("")
    assert names_in(str(store.layout.root / name)) == []
