from __future__ import annotations

import json
from pathlib import Path

import pytest

from xinference_venv.errors import InvalidModelSpec
from xinference_venv.planning.markers import MarkerFacts
from xinference_venv.planning.requirements import Requirements, plan_requirements
from xinference_venv.store.catalog import built_in_catalog, load_catalog

CATALOG = built_in_catalog()


def plan(model: str, engine: str | None = None, model_format: str | None = None) -> Requirements:
    return plan_requirements(
        engine=engine,
        model_format=model_format,
        model_packages=CATALOG.model(model).variants[0].virtualenv.packages,
        launch_packages=(),
        catalog_engines=CATALOG.engines,
        facts=MarkerFacts(
            environment={"sys_platform": "linux", "platform_machine": "x86_64"},
            has_cuda=True,
            cuda_version="13.0",
        ),
        host_versions={"numpy": "1.26.4"},
        public_pins=False,
    )


def write_spec(path: Path, *names: str, packages: str = "numpy") -> Path:
    models = [{"model_name": name, "virtualenv": {"packages": [packages]}} for name in names]
    path.write_text(json.dumps(models))
    return path


@pytest.mark.parametrize("model", CATALOG.models)
@pytest.mark.parametrize("engine", [None, *CATALOG.engines])
def test_every_built_in_model_can_be_planned_for_every_engine(
    model: str, engine: str | None
) -> None:
    assert plan(model, engine).lines
    assert CATALOG.model(model).description
    assert CATALOG.model(model).origin == "built-in"


@pytest.mark.parametrize("engine", CATALOG.engines)
def test_every_set_of_an_engine_and_format_can_be_planned(engine: str) -> None:
    entry = CATALOG.engines[engine]
    for model_format in (None, *entry.formats):
        planned = plan_requirements(
            engine=entry.name,
            model_format=model_format,
            model_packages=(),
            launch_packages=(),
            catalog_engines=CATALOG.engines,
            facts=MarkerFacts(environment={"sys_platform": "linux"}),
            host_versions={},
            public_pins=False,
        )
        assert planned.lines


def test_engines_are_keyed_by_their_names_in_lower_case() -> None:
    for name, entry in CATALOG.engines.items():
        assert name == entry.name == name.lower()


def test_qwen_omni_takes_the_set_of_the_launched_engine_alone() -> None:
    named = {line.name for line in plan("qwen2.5-omni", "vllm").lines}
    assert named == {"vllm", "numpy", "qwen-omni-utils", "audioread", "soundfile"}
    named = {line.name for line in plan("qwen2.5-omni", "Transformers", "gptq").lines}
    assert {"transformers", "accelerate", "gptqmodel", "soundfile"} <= named
    assert not {"numpy", "vllm", "sglang"} & named


def test_the_kernel_of_sglang_is_the_archive_for_the_machine() -> None:
    kernels = [line for line in plan("qwen2.5-omni", "sglang").lines if "sgl_kernel" in line.text]
    (kernel,) = kernels
    assert kernel.name == "sgl-kernel"
    assert kernel.text.endswith("_x86_64.whl")


def test_engines_that_need_other_indexes_say_so() -> None:
    vllm = CATALOG.engines["vllm"]
    assert all(url.startswith("https://") for url in vllm.extra_index_urls)
    assert vllm.index_strategy == "unsafe-best-match"
    assert CATALOG.engines["mlx"].extra_index_urls == ()
    assert CATALOG.engines["mlx"].index_strategy is None


def test_the_folder_is_read_in_the_order_of_names_and_files_come_last(tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    write_spec(folder / "b.json", "magika-1", "mine", packages="b")
    write_spec(folder / "a.json", "magika-1", "magika-0.5", packages="a")
    (folder / "notes.txt").write_text("not read")
    given = write_spec(tmp_path / "given.json", "mine", packages="given")
    catalog = load_catalog(folder, [given])
    assert catalog.model("magika-0.5").variants[0].virtualenv.packages == ("a",)
    assert catalog.model("magika-1").variants[0].virtualenv.packages == ("b",)
    assert catalog.model("magika-1").origin == str(folder / "b.json")
    assert catalog.model("mine").variants[0].virtualenv.packages == ("given",)
    assert catalog.model("GOT-OCR2_0").origin == "built-in"


def test_without_folder_and_files_there_is_what_is_built_in(tmp_path: Path) -> None:
    assert load_catalog(None, []) == CATALOG
    assert load_catalog(tmp_path / "absent", []) == CATALOG


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text('{"model_name": "mine"}', encoding="utf-8-sig")
    assert load_catalog(None, [given]).model("mine").model_name == "mine"


@pytest.mark.parametrize(
    ("content", "wrong"),
    [(b"{", "line 1, column 2"), (b"\xff", "not UTF-8"), (None, "No such file")],
)
def test_a_damaged_or_absent_file_is_named(
    tmp_path: Path, content: bytes | None, wrong: str
) -> None:
    given = tmp_path / "given.json"
    if content is not None:
        given.write_bytes(content)
        with pytest.raises(InvalidModelSpec, match=r"given\.json"):
            load_catalog(tmp_path, [])
    with pytest.raises(InvalidModelSpec) as caught:
        load_catalog(None, [given])
    assert str(given) in caught.value.message
    assert wrong in caught.value.message
    assert caught.value.hint
