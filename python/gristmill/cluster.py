"""A job over a Ray cluster: this process shares out its shards, actors run them, and then all of them are published.

Each file of the output is a shard (docs/shards.md). An actor opens the job once and runs shard after shard; what is finished is
found again, whoever died.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from gristmill import _gristmill
from gristmill.errors import Error

if TYPE_CHECKING:
    from types import FrameType

#: Exit codes, as of the command line.
FAILED, REFUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143

#: Seconds between two looks at signals and at what waits.
LOOK = 0.5

#: Seconds that the start waits for actors that have no room, once one has it.
ROOM = 10.0

#: Seconds between two lines of progress.
PROGRESS = 10.0

#: A shard that failed so often ends the job, as does one during which so many actors died.
FAILURES, DEATHS = 3, 10

#: An actor that fails so often before it has opened the job is not begun again.
STARTS = 5

#: Seconds for which a shard may be at work elsewhere, and the longest pause of an actor that failed.
LOCKED, PAUSE = 300.0, 60.0

#: Seconds that actors have to stop.
LEAVE = 15.0


def last_line(error: BaseException) -> str:
    """What an error of Ray says at its end: above are traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _note(line: str) -> None:
    _gristmill.Driver.note(line)


def _warn(line: str) -> None:
    _note(f"warning: {line}")


def fail(line: str, code: int = FAILED) -> int:
    _note(f"error: {line}")
    return code


class _End(Exception):
    """The job ends before it is finished: with an exit code, and a line that says why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        # Whoever says why has not done it, whatever the code says.
        self.exit_code = code or FAILED


class _Seat:
    """A place for an actor, which is begun again when it dies, and what it is at."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.actor: Any = None
        #: What it is at: `place` (it begins on a node), `open`, a shard, or nothing.
        self.task: str | None = None
        self.ref: Any = None
        self.node: str | None = None
        #: The job as it has opened it.
        self.job: dict[str, Any] | None = None
        #: Starts in a row that did not come as far as a job.
        self.lost = 0
        #: Failures in a row, and when it may go on.
        self.failures = 0
        self.until = 0.0

    def is_at_shard(self) -> bool:
        """Whether it runs a shard (`3/20`)."""
        return self.task is not None and "/" in self.task


class Cluster:
    """A job on its way over the actors of a cluster."""

    def __init__(self, driver: _gristmill.Driver, flags: list[str], own: argparse.Namespace, private: str | None) -> None:
        import ray

        from gristmill.actor import Actor

        self.ray, self.driver = ray, driver
        # A second thread is for `stop`. Actors that die are begun anew here, on any node that has room.
        options = {"num_cpus": own.num_cpus, "num_gpus": own.num_gpus, "max_restarts": 0, "max_concurrency": 2}
        self.new_actor = lambda: ray.remote(**options)(Actor).remote(flags, os.getcwd(), private)
        self.asks = f"{own.num_cpus:g} cores" + (f" and {own.num_gpus:g} GPUs" if own.num_gpus else "")
        self.seats = [_Seat(number) for number in range(own.concurrency)]
        self.job: dict[str, Any] | None = None
        self.first: _Seat | None = None
        self.left: deque[str] | None = None
        self.finished = self.run_here = self.rows = self.errors = 0
        self.failures: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.locked: dict[str, float] = {}
        self.begun = self.said = time.monotonic()
        self.placed_at: float | None = None
        self.stopped: int | None = None

    def run(self) -> int:
        """Runs all shards and publishes them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            self._run_shards()
        except (_End, Error) as end:
            self._stop()
            return fail(str(end), end.exit_code)
        self._dismiss()
        assert self.job is not None
        # Publishing is short; a signal ends it as it ends any program, and the same command publishes again.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        return self.driver.publish(self.job["shards"])

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.stopped is not None:
            os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)
        self.stopped = number

    def _run_shards(self) -> None:
        while self.left is None or self.left or self._busy():
            if self.stopped is not None:
                name, code = ("Ctrl-C", INTERRUPTED) if self.stopped == signal.SIGINT else ("SIGTERM", TERMINATED)
                _note(f"gristmill-ray: stopping on {name}; keeping finished rows (a second signal stops it at once)")
                raise _End(code, f"stopped by {name}; finished rows are kept, and the same command goes on with the others")
            self._hand_out()
            refs = {seat.ref: seat for seat in self.seats if seat.ref is not None}
            if not refs:
                time.sleep(LOOK / 10)
                continue
            ready, _ = self.ray.wait(list(refs), num_returns=1, timeout=LOOK)
            for ref in ready:
                self._take(refs[ref])
            self._say()

    def _busy(self) -> bool:
        return any(seat.is_at_shard() for seat in self.seats)

    # What actors are to do.

    def _hand_out(self) -> None:
        """Gives each actor that has nothing to do its next task."""
        now = time.monotonic()
        for seat in self.seats:
            if seat.ref is not None or now < seat.until:
                continue
            if seat.actor is None:
                self._begin(seat)
            elif seat.job is None:
                self._order(seat, "open")
            elif self._may_start() and self.left:
                self._order(seat, self.left.popleft())

    def _begin(self, seat: _Seat) -> None:
        seat.actor, seat.job, seat.node = self.new_actor(), None, None
        seat.task, seat.ref = "place", seat.actor.node.remote()

    def _order(self, seat: _Seat, task: str) -> None:
        seat.task, seat.ref = task, seat.actor.order.remote(task)

    def _may_start(self) -> bool:
        """Whether all actors that have room have opened the job, so that a mixture of devices is known before a row is run."""
        if self.left is not None:
            return True
        opening = any(seat.node is not None and seat.job is None for seat in self.seats)
        waiting = any(seat.node is None for seat in self.seats)
        assert self.placed_at is not None
        if opening or (waiting and time.monotonic() < self.placed_at + ROOM):
            return False
        assert self.job is not None
        self.left = deque(self.driver.unfinished(self.job["job"]))
        self.finished = self.job["shards"] - len(self.left)
        opened = [seat for seat in self.seats if seat.job is not None]
        nodes = len({seat.node for seat in opened})
        _note(
            f"gristmill-ray: {self.job['rows']} rows in {self.job['shards']} files, of which {self.finished} are finished; "
            f"{len(opened)} of {len(self.seats)} actors on {nodes} nodes"
        )
        self.begun = self.said = time.monotonic()
        return True

    # What became of it.

    def _take(self, seat: _Seat) -> None:
        """Takes in what an actor has done."""
        task, ref = seat.task, seat.ref
        seat.task = seat.ref = None
        assert task is not None
        try:
            told = self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            return self._lose(seat, task, last_line(error))
        if task == "place":
            seat.node = told
            self.placed_at = self.placed_at or time.monotonic()
        elif "error" in told:
            self._take_failure(seat, task, told)
        elif task == "open":
            self._take_opened(seat, told)
        else:
            seat.failures = 0
            self.finished += 1
            self.run_here += 1
            self.rows += told["rows"]
            self.errors += told["errors"]
            self.locked.pop(task, None)

    def _take_opened(self, seat: _Seat, told: dict[str, Any]) -> None:
        seat.job, seat.lost = told, 0
        if self.job is None or self.first is None:
            self.job, self.first = told, seat
            return
        differences = _gristmill.Driver.differences(self.job["job"], told["job"])
        if not differences:
            return
        which = f"node {seat.node} is not of the kind of node {self.first.node}; these values differ:\n{differences}"
        if self.left is None:
            raise _End(
                REFUSED,
                f"the actors of a job must be of one kind: {which}\nlet the job have nodes of one kind (--num-gpus), or say which "
                "device to use (--device)",
            )
        _warn(f"{which}\nit does nothing for this job")
        self._retire(seat)

    def _take_failure(self, seat: _Seat, task: str, told: dict[str, Any]) -> None:
        code, why = told.get("code") or FAILED, told["error"]
        if code in (INTERRUPTED, TERMINATED):
            # Somebody has stopped it, perhaps with its node.
            return self._lose(seat, task, why)
        if code != FAILED:
            if task == "open" and self.left is not None:
                # It came later than the others, which work.
                _warn(f"node {seat.node}: {why}; it does nothing for this job")
                return self._retire(seat)
            raise _End(code, f"{why} (node {seat.node})")
        now = time.monotonic()
        if told.get("locked"):
            # Who had it may be about to end; meanwhile there are others.
            since = self.locked.setdefault(task, now)
            if now - since > LOCKED:
                raise _End(code, why)
            assert self.left is not None
            self.left.append(task)
            seat.until = now + 2 * LOOK
            return
        if task == "open":
            seat.lost += 1
            if seat.lost >= STARTS:
                return self._give_up(seat, code, why)
        else:
            self.failures[task] += 1
            if self.failures[task] >= FAILURES:
                raise _End(code, f"file {task} failed {FAILURES} times; the last time: {why} (node {seat.node})")
            assert self.left is not None
            self.left.append(task)
        seat.failures += 1
        pause = min(PAUSE, 2.0 ** (seat.failures - 1))
        _warn(f"node {seat.node}: {why}; trying {'again' if task == 'open' else f'file {task} again, perhaps elsewhere'}")
        self._replace(seat, pause)

    def _lose(self, seat: _Seat, task: str, why: str) -> None:
        """An actor is dead, or as good as that."""
        if "/" in task:
            assert self.left is not None
            self.deaths[task] += 1
            if self.deaths[task] >= DEATHS:
                raise _End(FAILED, f"{DEATHS} actors died while they worked on file {task}; the last time: {why}")
            self.left.appendleft(task)
            _warn(f"an actor died on node {seat.node}; file {task} is run again: {why}")
        else:
            seat.lost += 1
            if seat.lost >= STARTS:
                return self._give_up(seat, FAILED, why)
        self._replace(seat, LOOK)

    def _give_up(self, seat: _Seat, code: int, why: str) -> None:
        """An actor cannot begin to work."""
        if self.job is None:
            raise _End(code, f"an actor could not begin: {why} (node {seat.node})")
        _warn(f"an actor could not begin, and is not tried again: {why} (node {seat.node})")
        self._retire(seat)

    def _retire(self, seat: _Seat) -> None:
        self._replace(seat, 0)
        self.seats.remove(seat)
        if not self.seats:
            raise _End(FAILED, "no actor is left; the same command goes on with the files that are left")

    def _replace(self, seat: _Seat, pause: float) -> None:
        if seat.actor is not None:
            self.ray.kill(seat.actor)
        seat.actor = seat.job = seat.node = None
        seat.until = time.monotonic() + pause

    # The end.

    def _stop(self) -> None:
        """Lets actors commit what is answered."""
        at_work = [seat for seat in self.seats if seat.is_at_shard()]
        for seat in at_work:
            seat.actor.stop.remote()
        refs, end = [seat.ref for seat in at_work], time.monotonic() + LEAVE
        while refs and time.monotonic() < end:
            _, refs = self.ray.wait(refs, num_returns=len(refs), timeout=LOOK)
        self._dismiss()

    def _dismiss(self) -> None:
        for seat in self.seats:
            if seat.actor is not None:
                self.ray.kill(seat.actor)

    def _say(self) -> None:
        """Says how far the job is, now and then."""
        now = time.monotonic()
        if now - self.said < PROGRESS:
            return
        self.said = now
        if self.placed_at is None:
            return _note(f"gristmill-ray: waiting for room in the cluster; each actor asks for {self.asks}")
        if self.job is None or self.left is None:
            return _note("gristmill-ray: actors are opening the job")
        shards, took = self.job["shards"], now - self.begun
        line = f"gristmill-ray: {self.finished} of {shards} files"
        if self.run_here:
            left = took / self.run_here * (shards - self.finished)
            line += f"; {self.rows / took:.0f} rows/s, {self.errors} errors; about {_span(left)} left"
        _note(f"{line}; {sum(seat.is_at_shard() for seat in self.seats)} actors at work")


def _span(seconds: float) -> str:
    """A time as people say it."""
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 2:
        return f"{hours:.0f} h"
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"
