"""Engines by name, and the index of an engine's builds for the CUDA of a host."""

from __future__ import annotations

import pytest

from xinference_venv.planning.engines import EngineEntry, cuda_index, find_engine

VLLM = EngineEntry(
    name="vLLM_Engine",
    distributions=("vllm",),
    cuda_indexes={"12.8": "https://cu128", "9.2": "https://cu92", "13.0": "https://cu130"},
)


@pytest.mark.parametrize("spelling", ["vllm-engine", "VLLM.engine", "vLLM_Engine"])
def test_an_engine_is_found_whatever_the_case_and_the_separators(spelling: str) -> None:
    assert find_engine({"vllm_engine": VLLM}, spelling) is VLLM


def test_no_name_and_another_name_find_no_engine() -> None:
    assert find_engine({"vllm_engine": VLLM}, None) is None
    assert find_engine({"vllm_engine": VLLM}, "sglang") is None


def test_a_model_asks_for_an_engine_by_its_name_or_by_its_distributions() -> None:
    assert VLLM.names == {"vllm-engine", "vllm"}
    assert EngineEntry(name="mlx").names == {"mlx"}


@pytest.mark.parametrize(
    ("of_host", "index"),
    [
        ("12.8", "https://cu128"),
        ("12.10", "https://cu128"),
        ("13.1", "https://cu130"),
        # Not by the order of the texts, in which 9.2 comes last.
        ("12.7", "https://cu92"),
        ("9.1", None),
        (None, None),
    ],
)
def test_the_index_is_the_one_of_the_newest_cuda_that_the_host_reaches(
    of_host: str | None, index: str | None
) -> None:
    assert cuda_index(VLLM, of_host) == index


def test_an_engine_without_builds_for_cuda_has_no_such_index() -> None:
    assert cuda_index(EngineEntry(name="mlx"), "12.8") is None
