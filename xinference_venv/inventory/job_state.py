"""One job on a worker, as a state: what happens goes in, what becomes of its lease comes out.

A thread that takes a lease can't be cancelled, and a lease can't always be given back at once. So
whatever comes in whatever order, a job that ends without a result keeps no lease, and one whose
caller never binds the lease keeps it for some minutes. Pure: the time is given by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from xinference_venv.inventory.jobs import JobJournal, Phase
from xinference_venv.inventory.lease import Lease

UNBOUND_LEASE_SECONDS = 600.0
"""From when a launch is ready until its lease must be bound to a process."""
AGAIN_SECONDS = 1.0
"""After so long a lease that could not be given back is tried again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveBack:
    """After `after` seconds give a lease back, unless it was bound to a process by then.

    What came of it is the event `given_back` or `not_given_back`.
    """

    lease: Lease
    after: float = 0.0


@dataclass(kw_only=True)
class JobState:
    """How a job is going: its events, and the `lease` that it has."""

    journal: JobJournal = field(default_factory=JobJournal)
    lease: Lease | None = field(default=None, init=False)
    _threads: int = field(default=0, init=False)
    is_given_up: bool = field(default=False, init=False)
    _returning: set[str] = field(default_factory=set, init=False)

    @property
    def is_clear(self) -> bool:
        """Whether a job that was given up has no lease, and no thread can give it one."""
        return self.is_given_up and not self._threads and not self._returning

    def thread_began(self) -> None:
        """A thread was started that may take a lease for the job."""
        self._threads += 1

    def thread_ended(self, taken: Iterable[Lease]) -> tuple[GiveBack, ...]:
        """A thread has ended, and had taken these leases: a job that goes on keeps the first."""
        self._threads -= 1
        goes_on = not (self.is_given_up or self.journal.phase.is_last)
        surplus = []
        for lease in taken:
            if goes_on and self.lease is None:
                self.lease = lease
            else:
                surplus.append(self._give_back(lease))
        return tuple(surplus)

    def give_up(self) -> tuple[GiveBack, ...]:
        """The job will have no result: it failed or was cancelled. One that has ended stays so."""
        if self.is_given_up or self.journal.phase.is_last:
            return ()
        self.is_given_up = True
        return () if self.lease is None else (self._give_back(self.lease),)

    def taken_back(self, at: float, message: str) -> tuple[GiveBack, ...] | None:
        """The launch that a ready job belongs to failed elsewhere: no one takes what it made.

        None for a job that is not ready, which stays as it is.
        """
        if self.journal.take_back(at, message) is None:
            return None
        self.is_given_up = True
        return () if self.lease is None else (self._give_back(self.lease),)

    def happened(
        self, at: float, phase: Phase, message: str, **progress: int | None
    ) -> tuple[GiveBack, ...]:
        """Something is to be reported; `at` is in seconds since the epoch. One end is the last."""
        done: tuple[GiveBack, ...] = ()
        if phase in (Phase.FAILED, Phase.CANCELLED):
            done = self.give_up()
        event = self.journal.add(at, phase, message, **progress)
        if event is not None and phase is Phase.READY and self.lease is not None:
            # Its caller may have died.
            done = (self._give_back(self.lease, after=UNBOUND_LEASE_SECONDS),)
        return done

    def given_back(self, lease: Lease) -> None:
        """A lease was given back, or is bound to a process, which gives it back."""
        self._returning.discard(lease.lease_id)
        if self.lease == lease:
            self.lease = None

    def not_given_back(self, lease: Lease) -> tuple[GiveBack, ...]:
        """Who holds the lock of its environment may do so for long: it is tried again."""
        return (self._give_back(lease, after=AGAIN_SECONDS),)

    def _give_back(self, lease: Lease, after: float = 0.0) -> GiveBack:
        self._returning.add(lease.lease_id)
        return GiveBack(lease=lease, after=after)
