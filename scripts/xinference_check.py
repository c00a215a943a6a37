"""What an unmodified Xinference does with its models' environments: stock beside the drop-in.

Run by ``scripts/xinference-check`` with the interpreter of an environment that has Xinference
4.1, which is the host here. Each side has a home and an uv cache of its own; the rows are run in
turns. A row is a small story over Xinference's own REST routes. It returns what is shown, and
whether that is what a user of Xinference expects: each row says for itself what counts as passed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
START_SECONDS = 600.0
LAUNCH_SECONDS = 900.0
# A model of any packages, which tells what it sees; the launcher is found by PYTHONPATH.
LAUNCHER = """\
import importlib.metadata, os, sys
from xinference.model.flexible.core import FlexibleModel


class Probe(FlexibleModel):
    def infer(self, code):
        names = {"version": importlib.metadata.version, "os": os, "sys": sys}
        return {"result": eval(code, names)}


def launcher(model_uid, model_spec, **kwargs):
    return Probe(model_uid=model_uid, model_path=model_spec.model_uri, model_family=model_spec)
"""


class Failed(Exception):
    """A request that Xinference answered with an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What a row came to on a side: in words, whether that is as it should be, in which time."""

    text: str
    passed: bool
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.text if self.passed else f'**not passed**: {self.text}'} ({self.seconds:.1f} s)"
        )


@dataclass
class Side:
    """An Xinference on this host: `name` is ``stock`` or ``ours``."""

    name: str
    home: Path
    port: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.home / "log.txt"

    def start(self, *command: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command of Xinference as this side has it."""
        prefix = [sys.executable, "-m", "xinference_venv.xinference"]
        words = [*prefix, command[0]] if self.name == "ours" else [str(BIN / command[0])]
        environ = {
            **os.environ,
            "XINFERENCE_HOME": str(self.home),
            "UV_CACHE_DIR": str(self.home / "uv-cache"),
            "PYTHONPATH": str(self.home / "launcher"),
            "XINFERENCE_FLEXIBLE_LAUNCHERS": "probe.launcher",
            "XINFERENCE_HEALTH_CHECK_INTERVAL": "2",
            "TRANSFORMERS_OFFLINE": "1",
            "XINFERENCE_AUTH_ADVANCED": "0",
            **variables,
        }
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*words, *command[1:]], env=environ, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    @contextmanager
    def local(self) -> Iterator[None]:
        """One process with supervisor and worker, as ``xinference-local`` starts it."""
        self.port = free_port()
        self.start("xinference-local", "--host", "127.0.0.1", "--port", str(self.port))
        try:
            self.wait_for_workers(1)
            yield
        finally:
            self.stop()

    @contextmanager
    def cluster(self, workers: int) -> Iterator[None]:
        """A supervisor and workers that share the home."""
        self.port, inner = free_port(), free_port()
        host = ("--host", "127.0.0.1")
        words = (*host, "--port", str(self.port), "--supervisor-port", str(inner))
        self.start("xinference-supervisor", *words)
        try:
            self.wait_until(lambda: self.call("GET", "/v1/cluster/auth"), "the supervisor")
            for _ in range(workers):
                port = ("--worker-port", str(free_port()))
                self.start("xinference-worker", "-e", self.url(""), *host, *port)
            self.wait_for_workers(workers)
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """End all its processes."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    continue
            for process in self.processes:
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    continue
        self.processes.clear()

    def url(self, path: str) -> str:
        """A path of its REST API."""
        return f"http://127.0.0.1:{self.port}{path}"

    def call(self, method: str, path: str, body: Any = None, *, timeout: float = 60.0) -> Any:
        """The JSON answer of a route; raises `Failed` with the server's words."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310
            self.url(path), data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            words = error.read().decode("utf-8", "replace")
            raise Failed(" ".join(words.split())) from None
        return json.loads(text) if text.strip() else None

    def wait_until(self, ready: Callable[[], Any], what: str) -> None:
        """Wait until something answers."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                if ready() is not False:
                    return
            except (OSError, Failed):
                pass
            if time.monotonic() > until:
                raise Failed(f"{what} did not start: see {self.log}")
            time.sleep(0.5)

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many workers are known to the supervisor."""
        self.wait_until(lambda: len(self.workers()) >= count, f"{count} workers")

    def workers(self) -> list[str]:
        """The addresses of its workers."""
        found = self.call("GET", "/v1/cluster/info?detailed=true")
        return sorted(each["ip_address"] for each in found if each["node_type"] == "Worker")

    def register(self, kind: str, model: dict[str, Any]) -> None:
        """Register a model of the user's own."""
        body = {"model": json.dumps(model), "persist": False}
        self.call("POST", f"/v1/model_registrations/{kind}", body)

    def probe(self, name: str, *packages: str) -> None:
        """Register a model that needs packages, and tells what it sees."""
        virtualenv = {"packages": list(packages)} if packages else None
        model = {"model_name": name, "model_uri": "/", "virtualenv": virtualenv}
        self.register("flexible", {**model, "launcher": "probe.launcher", "launcher_args": "{}"})

    def launch(self, name: str, kind: str = "flexible", **options: Any) -> float:
        """Launch a model; the seconds that it took. Its uid is `model_uid`, or its name."""
        began = time.monotonic()
        body = {"model_uid": name, "model_name": name, "model_type": kind, "replica": 1, **options}
        self.call("POST", "/v1/models", body, timeout=LAUNCH_SECONDS)
        return time.monotonic() - began

    def sees(self, uid: str, code: str) -> Any:
        """The value of an expression in a model's process."""
        answer = self.call("POST", "/v1/flexible/infers", {"model": uid, "args": [code]})
        return answer["result"]

    def version(self, uid: str, name: str) -> str:
        """The version of a distribution that a model's process sees."""
        return str(self.sees(uid, f"version({name!r})"))

    def end(self, *uids: str) -> None:
        """Unload models."""
        for uid in uids:
            self.call("DELETE", f"/v1/models/{uid}", timeout=120)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def refusal(what: Callable[[], Any]) -> str | None:
    """Why it was refused, in a few words; None when it was not."""
    try:
        what()
    except Failed as error:
        text = str(error)
        known = ("is in use by process", "Remote server", "cancelled")
        return next((words for words in known if words in text), text[:160])
    return None


def uv_installs(home: Path) -> bool:
    """Whether an uv installs something into a side's home now."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            folder = os.readlink(process / "cwd")
        except OSError:
            continue
        is_install = os.path.basename(words[0]) == "uv" and "install" in words
        if is_install and any(each.startswith(str(home)) for each in (*words, folder)):
            return True
    return False


# The rows. Each goes through its story on a running side.


def default_mode(side: Side) -> Shown:
    """A launch that says nothing of environments."""
    side.probe("plain", "iniconfig==2.0.0")
    side.launch("plain")
    prefix = side.sees("plain", "sys.prefix") != sys.prefix
    shown = side.version("plain", "iniconfig"), side.sees("plain", "'VIRTUAL_ENV' in os.environ")
    side.end("plain")
    return Shown(
        text=f"own environment {prefix}, iniconfig {shown[0]}, VIRTUAL_ENV {shown[1]}",
        passed=prefix and shown[0] == "2.0.0",
    )


def explicit_mode(side: Side) -> Shown:
    """The same with `enable_virtual_env`, and off."""
    side.probe("explicit", "iniconfig==2.0.0")
    side.launch("explicit", enable_virtual_env=True)
    on = side.version("explicit", "iniconfig"), side.sees("explicit", "'VIRTUAL_ENV' in os.environ")
    side.end("explicit")
    side.launch("explicit", enable_virtual_env=False)
    off = side.sees("explicit", "sys.prefix") == sys.prefix
    side.end("explicit")
    return Shown(
        text=f"iniconfig {on[0]}, VIRTUAL_ENV {on[1]}; off: the host's {off}",
        passed=on[0] == "2.0.0" and off,
    )


def override(side: Side) -> Shown:
    """Packages of the launch in place of the model's."""
    side.probe("override", "iniconfig==2.0.0", "toolz==0.12.1")
    side.launch("override", virtual_env_packages=["iniconfig==2.1.0"])
    seen = side.version("override", "iniconfig"), side.version("override", "toolz")
    side.end("override")
    return Shown(text=f"iniconfig {seen[0]}, toolz {seen[1]}", passed=seen == ("2.1.0", "0.12.1"))


def relaunch(side: Side) -> Shown:
    """A second launch of what is there."""
    side.probe("again", "iniconfig==2.0.0")
    side.launch("again")
    side.end("again")
    took = side.launch("again")
    seen = side.version("again", "iniconfig")
    side.end("again")
    return Shown(text=f"iniconfig {seen}, the second time in {took:.1f} s", passed=seen == "2.0.0")


def two_generations(side: Side) -> Shown:
    """An embedding model with the host's transformers, and one with an older, at once."""
    make_models(side.home)
    spec = {"model_format": "pytorch", "quantization": "none"}
    spec["model_uri"] = f"file://{side.home}/bert"
    model = {"dimensions": 32, "max_tokens": 64, "language": ["en"], "model_specs": [spec]}
    old = ["transformers==4.57.1", "sentence-transformers<6", "huggingface-hub<1"]
    for name, packages in (("new-embedding", []), ("old-embedding", old)):
        virtualenv = {"packages": packages}
        side.register("embedding", {**model, "model_name": name, "virtualenv": virtualenv})
        side.launch(name, "embedding", model_engine="sentence_transformers")
    lengths = []
    for name in ("new-embedding", "old-embedding"):
        answer = side.call("POST", "/v1/embeddings", {"model": name, "input": "a b"})
        lengths.append(len(answer["data"][0]["embedding"]))
    side.end("new-embedding", "old-embedding")
    return Shown(text=f"dimensions {lengths}", passed=lengths == [32, 32])


def reranker(side: Side) -> Shown:
    """A reranker of sentence-transformers."""
    make_models(side.home)
    spec = {"model_format": "pytorch", "model_uri": f"file://{side.home}/ranker"}
    model = {"language": ["en"], "max_tokens": 64, "model_specs": [spec], "type": "normal"}
    side.register("rerank", {**model, "model_name": "ranker"})
    side.launch("ranker", "rerank", model_engine="sentence_transformers")
    body = {"model": "ranker", "query": "a", "documents": ["a b", "c"]}
    answer = side.call("POST", "/v1/rerank", body)
    side.end("ranker")
    count = len(answer["results"])
    return Shown(text=f"{count} results", passed=count == 2)


def tiny_llm(side: Side) -> Shown:
    """A language model of transformers, with random weights."""
    make_models(side.home)
    spec = {"model_format": "pytorch", "model_size_in_billions": 1, "quantization": "none"}
    spec["model_uri"] = f"file://{side.home}/llm"
    model = {"version": 2, "context_length": 128, "model_lang": ["en"], "model_specs": [spec]}
    model |= {"model_ability": ["generate"], "model_family": "qwen2", "chat_template": None}
    side.register("LLM", {**model, "model_name": "tiny", "architectures": ["Qwen2ForCausalLM"]})
    options = {"model_format": "pytorch", "model_size_in_billions": 1, "quantization": "none"}
    side.launch("tiny", "LLM", model_engine="transformers", **options)
    body = {"model": "tiny", "prompt": "a b", "max_tokens": 4}
    answer = side.call("POST", "/v1/completions", body, timeout=120)
    side.end("tiny")
    count = answer["usage"]["completion_tokens"]
    return Shown(text=f"{count} tokens", passed=count == 4)


def routes(side: Side) -> Shown:
    """What Xinference's own routes list, and remove."""
    side.probe("listed", "iniconfig==2.0.0")
    side.launch("listed")
    side.end("listed")

    def listed() -> list[Any]:
        return list(side.call("GET", "/v1/virtualenvs?model_name=listed")["list"])

    [entry] = listed()
    query = f"model_name=listed&model_engine=default&python_version={entry['python_version']}"
    packages = f"/v1/virtualenvs/packages?{query}&worker_ip={entry['actor_ip_address']}"
    own = [each["name"] for each in side.call("GET", packages)["packages"]]
    side.call("DELETE", "/v1/virtualenvs?model_name=listed")
    left = len(listed())
    return Shown(
        text=f"packages {own}, after the removal {left} environments",
        passed=own == ["iniconfig"] and not left,
    )


def host_change(side: Side) -> Shown:
    """The host gets another version of an inherited package while a model runs."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-warn-script-location"]
    subprocess.run([*pip, "toolz==0.12.1"], check=True, capture_output=True)
    side.probe("inherits", "toolz", "iniconfig==2.0.0")
    side.launch("inherits", model_uid="first")
    try:
        before = side.version("first", "toolz")
        subprocess.run([*pip, "toolz==1.0.0"], check=True, capture_output=True)
        side.launch("inherits", model_uid="second")
        after = side.version("second", "toolz")
        side.end("second")
        lives = side.sees("first", "1") == 1
        return Shown(
            text=f"before {before}, the second one {after}, the first lives: {lives}",
            passed=(before, after) == ("0.12.1", "1.0.0") and lives,
        )
    finally:
        side.end("first")
        subprocess.run(
            [sys.executable, "-m", "pip", "uninstall", "-qy", "toolz"],
            check=True,
            capture_output=True,
        )


def cancel(side: Side) -> Shown:
    """A launch is cancelled while uv installs its packages, and then launched again."""
    side.probe("slow", "iniconfig==2.0.0", "pyarrow==20.0.0")
    body = {"model_uid": "slow", "model_name": "slow", "model_type": "flexible"}
    side.call("POST", "/v1/models?wait_ready=false", body)
    side.wait_until(lambda: uv_installs(side.home), "uv")
    began = time.monotonic()
    refused = refusal(lambda: side.call("POST", "/v1/models/slow/cancel", timeout=LAUNCH_SECONDS))
    took = time.monotonic() - began
    ended = not uv_installs(side.home)
    listed = "slow" in [each["id"] for each in side.call("GET", "/v1/models")["data"]]
    side.launch("slow")
    seen = side.version("slow", "pyarrow")
    side.end("slow")
    how = "cancelled" if refused is None else f"not cancelled ({refused})"
    return Shown(
        text=f"{how} after {took:.1f} s, uv has ended: {ended}, runs all the same: {listed};"
        f" launched again: pyarrow {seen}",
        passed=refused is None and ended and not listed and seen == "20.0.0",
    )


def kill(side: Side) -> Shown:
    """Kill -9 of a model's process, and of all of Xinference, then the same launch."""
    side.probe("killed", "iniconfig==2.0.0")
    side.launch("killed")
    os.kill(int(side.sees("killed", "os.getpid()")), signal.SIGKILL)
    side.wait_until(lambda: side.sees("killed", "1") == 1, "the model again")
    for process in side.processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    side.processes.clear()
    with side.local():
        side.probe("killed", "iniconfig==2.0.0")
        if refusal(lambda: side.version("killed", "iniconfig")) is not None:
            side.launch("killed")
        seen = side.version("killed", "iniconfig")
        return Shown(
            text=f"recovered; after all was killed: iniconfig {seen}", passed=seen == "2.0.0"
        )


def two_workers(side: Side) -> Shown:
    """Two workers that share a home: the second is to replace what runs under the first."""
    first, second = side.workers()
    side.probe("shared", "iniconfig==2.0.0")
    side.launch("shared", model_uid="one", worker_ip=first)
    options: dict[str, Any] = {"worker_ip": second}
    other = {**options, "virtual_env_packages": ["iniconfig==2.1.0"]}
    replaced = refusal(lambda: side.launch("shared", model_uid="two", **other))
    kept = side.version("one", "iniconfig")
    more = {**options, "virtual_env_packages": ["toolz==1.0.0"]}
    added = refusal(lambda: side.launch("shared", model_uid="three", **more))
    side.end("one")
    return Shown(
        text=f"another version: {'replaces it' if replaced is None else f'refused: {replaced}'},"
        f" the first one has {kept}; one more package:"
        f" {'launched' if added is None else f'refused: {added}'}",
        passed=replaced is not None and kept == "2.0.0" and added is None,
    )


ROWS: dict[str, Callable[[Side], Shown]] = {
    "default-mode": default_mode,
    "explicit-mode": explicit_mode,
    "override": override,
    "relaunch": relaunch,
    "two-generations": two_generations,
    "reranker": reranker,
    "tiny-llm": tiny_llm,
    "routes": routes,
    "host-change": host_change,
    "cancel": cancel,
    "kill": kill,
    "two-workers": two_workers,
}
ON_TWO_WORKERS = frozenset({"two-workers"})


def make_models(home: Path) -> None:
    """Make models with random weights, small as can be."""
    if (home / "llm").exists():
        return
    code = """
import json, pathlib, sys
home = sys.argv[1]
from transformers import (BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast,
    Qwen2Config, Qwen2ForCausalLM, PreTrainedTokenizerFast)
from tokenizers import Tokenizer, models, pre_tokenizers
# A model of eight words never says the last one: random weights would end with it now and then.
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "[EOS]"]
tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]",
    cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]", eos_token="[EOS]",
    model_max_length=64)
small = dict(vocab_size=8, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=32, max_position_embeddings=64)
def save(name, model):
    model.save_pretrained(f"{home}/{name}")
    fast.save_pretrained(f"{home}/{name}")
    # The name that transformers 5 writes is none that transformers 4 knows.
    settings = pathlib.Path(home, name, "tokenizer_config.json")
    known = json.loads(settings.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(known))
save("bert", BertModel(BertConfig(**small)))
save("ranker", BertForSequenceClassification(BertConfig(**small, num_labels=1)))
save("llm", Qwen2ForCausalLM(Qwen2Config(**small, num_key_value_heads=2, eos_token_id=8)))
"""
    subprocess.run([sys.executable, "-c", code, str(home)], check=True, capture_output=True)


def outcome(name: str, side: Side) -> Shown:
    """What a row comes to on a side."""
    began = time.monotonic()
    try:
        shown = ROWS[name](side)
    except (Failed, OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        shown = Shown(text=" ".join(str(error).split())[:300], passed=False)
    return replace(shown, seconds=time.monotonic() - began)


def main(wanted: list[str]) -> int:
    """Run the rows in turns, print the table; 1 when one does not pass with the drop-in."""
    unknown = sorted(set(wanted) - ROWS.keys())
    if unknown:
        print(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="xinference-check-"))
    sides = [Side(name=name, home=folder / name) for name in ("stock", "ours")]
    for side in sides:
        (side.home / "launcher").mkdir(parents=True)
        (side.home / "launcher" / "probe.py").write_text(LAUNCHER)
    names = [name for name in ROWS if name in wanted or not wanted]
    results: dict[str, list[Shown]] = {name: [] for name in names}
    shared = [name for name in names if name in ON_TWO_WORKERS]
    for group in ([name for name in names if name not in shared], shared):
        if not group:
            continue
        with ExitStack() as running:
            for side in sides:
                running.enter_context(side.cluster(2) if group is shared else side.local())
            for name in group:
                for side in sides:
                    results[name].append(outcome(name, side))
                    print(name, side.name, str(results[name][-1]), file=sys.stderr, flush=True)
    print("| row | stock | drop-in |\n|---|---|---|")
    for name, (stock, ours) in results.items():
        print(f"| `{name}` | {stock} | {ours} |")
    missed = [name for name, (_, ours) in results.items() if not ours.passed]
    worse = [name for name in missed if results[name][0].passed]
    if not missed:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(names)} rows, {len(missed)} not passed, {len(worse)} of them worse than stock")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
