"""The one error root, with what a person or a program needs to act on each error.

VirtualEnvError                 error
├── InvalidInput                invalid_input
│   ├── InvalidName             invalid_name
│   ├── InvalidRequirement      invalid_requirement
│   ├── InvalidSource           invalid_source
│   ├── InvalidPythonVersion    invalid_python_version
│   ├── InvalidModelSpec        invalid_model_spec
│   ├── UnknownEngine           unknown_engine
│   ├── UnknownFormat           unknown_format
│   └── InvalidRecord           invalid_record
├── NotFound                    not_found
│   ├── UnknownModel            unknown_model
│   ├── UnknownJob              unknown_job
│   ├── PythonNotFound          python_not_found
│   └── UvNotFound              uv_not_found
├── InUse                       in_use
├── BuildFailed                 build_failed
│   ├── UvFailed                uv_failed
│   ├── ResolutionFailed        resolution_failed
│   ├── InstallFailed           install_failed
│   ├── VerificationFailed      verification_failed
│   └── ModelStartFailed        model_start_failed
├── StoreError                  store_error
├── DeadlineExceeded            deadline_exceeded
│   └── NoProgress              no_progress
├── JobCancelled                job_cancelled
├── WorkerUnavailable           worker_unavailable
└── IncompatibleVersion         incompatible_version

Every error is built from exactly ``(message, details)``, so it survives pickling between
processes (also as the dynamic subclass that xoscar raises) and a round trip through JSON.
``details`` holds plain JSON values: ``hint``, ``phase``, ``host`` and, where uv spoke,
``command`` (redacted), ``exit_status`` and ``output`` (the tail of what it printed);
``without_host``, why a resolution has no solution without the host either;
``missing_builds``, pins of builds that fit the host's torch and no index has; ``code`` only
where it is one that this release does not know. ``texts`` are message and hint as sentences, for
front ends that speak other languages (`sentences`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from xinference_venv.sentences import TEXTS, Sentence, sentence_of

_HINT = "hint"
_MESSAGE = "message"


class VirtualEnvError(Exception):
    """The root: ``message`` says what happened, ``hint`` what to do about it."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        all_details = dict(details or {})
        texts = {
            key: written
            for key, text in ((_MESSAGE, message), (_HINT, all_details.get(_HINT)))
            if (written := _written(text, all_details, key)) is not None
        }
        all_details.pop(TEXTS, None)
        if isinstance(all_details.get(_HINT), str):
            all_details[_HINT] = str(all_details[_HINT])
        if texts:
            all_details[TEXTS] = texts
        super().__init__(str(message), all_details)

    @property
    def message(self) -> str:
        """What happened, in one sentence or a short paragraph."""
        return _sentence_or_text(str(self.args[0]), self.details, _MESSAGE)

    @property
    def details(self) -> dict[str, Any]:
        """Plain JSON values that say more; see the module's docstring for the keys."""
        return dict(self.args[1])

    @property
    def hint(self) -> str | None:
        """What to do about it, when there is something to say."""
        details = self.details
        hint = details.get(_HINT)
        return _sentence_or_text(hint, details, _HINT) if isinstance(hint, str) else hint

    @property
    def phase(self) -> str | None:
        """The phase of the job that failed, when there was one."""
        return self.details.get("phase")

    def __str__(self) -> str:
        return self.message

    def with_details(self, **more: Any) -> Self:
        """The same error with further details; those it has already stay."""
        return type(self)(self.message, {**more, **self.details})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `error_from_dict` is the way back."""
        code = self.details.get("code", self.code)
        return {"code": code, "message": self.args[0], "details": self.details}


def _written(text: object, details: Mapping[str, Any], key: str) -> object:
    """A text of an error as a sentence, if it is one or if `details` have it as one.

    Those of another error, of which this one was made, don't count: they say something else.
    """
    if isinstance(text, str) and not isinstance(text, Sentence):
        text = _sentence_or_text(text, details, key)
    return text.to_dict() if isinstance(text, Sentence) else None


def _sentence_or_text(text: str, details: Mapping[str, Any], key: str) -> str:
    texts = details.get(TEXTS)
    written = texts.get(key) if isinstance(texts, Mapping) else None
    return text if written is None else sentence_of(written, text) or text


class InvalidInput(VirtualEnvError):
    """Invalid input: the message names it, the hint says what is allowed."""

    code = "invalid_input"
    exit_code = 2


class InvalidName(InvalidInput):
    """A model, engine, format or worker name with forbidden characters or length."""

    code = "invalid_name"


class InvalidRequirement(InvalidInput):
    """A package line that is neither PEP 508, a direct URL nor one of our placeholders."""

    code = "invalid_requirement"


class InvalidSource(InvalidInput):
    """An index URL, find-links folder, trusted host or index strategy that is not allowed."""

    code = "invalid_source"


class InvalidPythonVersion(InvalidInput):
    """A Python version that is not ``MAJOR.MINOR`` or ``MAJOR.MINOR.PATCH``."""

    code = "invalid_python_version"


class InvalidModelSpec(InvalidInput):
    """A model specification file or block that can't be read as one."""

    code = "invalid_model_spec"


class UnknownEngine(InvalidInput):
    """Neither the catalogue nor the model knows the engine."""

    code = "unknown_engine"


class UnknownFormat(InvalidInput):
    """The model has no entry for the format, the size or the quantization."""

    code = "unknown_format"


class InvalidRecord(InvalidInput):
    """A record on disk or on the wire that can't be read as what it should be."""

    code = "invalid_record"


class NotFound(VirtualEnvError):
    """What was named does not exist."""

    code = "not_found"
    exit_code = 3


class UnknownModel(NotFound):
    """The catalogue has no such model."""

    code = "unknown_model"


class UnknownJob(NotFound):
    """No such job, or it ended too long ago and was dropped."""

    code = "unknown_job"


class PythonNotFound(NotFound):
    """No interpreter of the wanted version on this host; those that are, are named."""

    code = "python_not_found"


class UvNotFound(NotFound):
    """No usable uv on this host."""

    code = "uv_not_found"


class InUse(VirtualEnvError):
    """Refused, since live processes use it.

    ``details["holders"]`` are their leases, ``details["users"]`` those that have none.
    """

    code = "in_use"
    exit_code = 4


class BuildFailed(VirtualEnvError):
    """An environment could not be made; nothing of it is left."""

    code = "build_failed"
    exit_code = 5


class UvFailed(BuildFailed):
    """uv ended with an error; its own words are in ``details["output"]``."""

    code = "uv_failed"


class ResolutionFailed(BuildFailed):
    """The requirements have no solution on this host with these sources."""

    code = "resolution_failed"


class InstallFailed(BuildFailed):
    """The locked packages could not be fetched, checked or installed."""

    code = "install_failed"


class VerificationFailed(BuildFailed):
    """What was installed is not what the lock says, so it was not published."""

    code = "verification_failed"


class ModelStartFailed(BuildFailed):
    """The model's process could not be started inside its environment."""

    code = "model_start_failed"


class StoreError(VirtualEnvError):
    """The disk did not do what was asked, or holds what it should not."""

    code = "store_error"
    exit_code = 6


class DeadlineExceeded(VirtualEnvError):
    """It took longer than allowed and was ended."""

    code = "deadline_exceeded"
    exit_code = 7


class NoProgress(DeadlineExceeded):
    """It got nowhere for too long and was ended."""

    code = "no_progress"


class WorkerUnavailable(VirtualEnvError):
    """A worker did not answer, or ended while it was asked."""

    code = "worker_unavailable"
    exit_code = 8


class IncompatibleVersion(VirtualEnvError):
    """Two parts of a cluster are of releases that can't work together."""

    code = "incompatible_version"
    exit_code = 9


class JobCancelled(VirtualEnvError):
    """The job was cancelled; nothing of it is left."""

    code = "job_cancelled"
    exit_code = 130

    @classmethod
    def by_signal(cls, name: str) -> Self:
        """The error of a command that the signal of this name ended."""
        return cls(f"cancelled by {name}; nothing of it is left")


def _tree(root: type[VirtualEnvError]) -> Iterator[type[VirtualEnvError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def error_from_dict(data: Mapping[str, Any]) -> VirtualEnvError:
    """The error that `VirtualEnvError.to_dict` described.

    A code of another release gives the root, which keeps it in its details and passes it on.
    """
    by_code: dict[str, type[VirtualEnvError]] = {}
    for each in _tree(VirtualEnvError):
        # Not the classes that xoscar derives of ours for errors of other processes.
        by_code.setdefault(each.code, each)
    code = str(data.get("code", VirtualEnvError.code))
    given = data.get("details")
    details = dict(given) if isinstance(given, Mapping) else {}
    if code not in by_code:
        details["code"] = code
    return by_code.get(code, VirtualEnvError)(str(data.get("message", "unknown error")), details)
