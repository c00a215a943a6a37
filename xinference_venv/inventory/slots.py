"""Which processes may run now: places that jobs share fairly, as a state.

Events come in: a process asks for a place, one has ended or was withdrawn. Instructions go out: the
tickets that may start. Jobs with fewer places come first, among equals who asked first. Resolving,
which may wait for a slow index for long, never takes the last place: it stays for verifying and
installing what is resolved. A job that resolves in two processes at once gets the second place
only where one is left for another job to resolve in. What is done ahead of need comes
after all others and leaves a place for them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from xinference_venv._util.humanize import counted
from xinference_venv.sentences import joined, sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A process that is to run: `job` names whose it is, `doing` says for what.

    One in the `background` comes after all others.
    """

    job: str
    doing: str
    resolving: bool = False
    background: bool = False


@dataclass(kw_only=True)
class SlotState:
    """`places` that may be taken at once; tickets are the caller's own numbers, in rising order."""

    places: int
    _running: dict[int, Ask] = field(default_factory=dict)
    _waiting: dict[int, Ask] = field(default_factory=dict)

    def asked(self, ticket: int, ask: Ask) -> list[int]:
        """A process asks for a place; the tickets that may start now, perhaps this one."""
        self._waiting[ticket] = ask
        return self._grant()

    def left(self, ticket: int) -> list[int]:
        """A process has ended, or does not want to start any more; the tickets that may start."""
        self._waiting.pop(ticket, None)
        self._running.pop(ticket, None)
        return self._grant()

    def hurried(self, job: str) -> list[int]:
        """A job of the background is needed now; the tickets that may start."""
        for asks in (self._waiting, self._running):
            for ticket, ask in asks.items():
                if ask.job == job:
                    asks[ticket] = replace(ask, background=False)
        return self._grant()

    def reason(self, ticket: int) -> str | None:
        """What a ticket waits for, in words; None when it does not wait."""
        if (ask := self._waiting.get(ticket)) is None:
            return None
        # Who may not resolve yet waits for one that resolves; anyone else for any place at all.
        any_place = not ask.resolving or self._free_to_resolve > 0
        holders = [each for each in self._running.values() if any_place or each.resolving]
        names = sorted(
            {sentence("{job} ({doing})", job=each.job, doing=each.doing) for each in holders}
        )
        ahead = sum(1 for other in self._waiting if other < ticket)
        taken = sentence(
            "waiting for one of {places} for processes; taken by {names}",
            places=counted(self.places, "place"),
            names=joined(names, ", "),
        )
        return sentence("{taken}; {ahead} ahead", taken=taken, ahead=ahead) if ahead else taken

    @property
    def _free_to_resolve(self) -> int:
        """So many more may resolve at once."""
        resolving = sum(each.resolving for each in self._running.values())
        return max(1, self.places - 1) - resolving

    def _may_run(self, ask: Ask, held: Counter[str]) -> bool:
        """Whether a place that is free is for this process, whose jobs have as many as `held`."""
        if ask.background and len(self._running) >= max(1, self.places - 1):
            return False
        return not ask.resolving or self._free_to_resolve > (1 if held[ask.job] else 0)

    def _grant(self) -> list[int]:
        granted = []
        while (ticket := self._next()) is not None:
            self._running[ticket] = self._waiting.pop(ticket)
            granted.append(ticket)
        return granted

    def _next(self) -> int | None:
        if len(self._running) >= self.places:
            return None
        held = Counter(each.job for each in self._running.values())
        candidates = [
            (ask.background, held[ask.job], ask.resolving, ticket)
            for ticket, ask in self._waiting.items()
            if self._may_run(ask, held)
        ]
        return min(candidates)[3] if candidates else None
