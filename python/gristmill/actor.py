"""An actor of `gristmill-ray`: it runs shards in a process of its own, whose deaths it survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from gristmill import state_dir

#: Seconds that the process has to commit what is answered.
LEAVE = 12.0


class Actor:
    """Runs shards of a job by `gristmill run-shards`, which loads the model once and starts a worker that dies again.

    Nothing here raises: what cannot be done is told, so that an error of Ray is the death of an actor and nothing else.
    """

    def __init__(self, flags: list[str], folder: str, private: str | None) -> None:
        from ray.util.metrics import Counter

        self.flags, self.folder = flags, folder
        #: A folder of state that nobody has named, and that is to be this user's.
        self.private = private
        self.process: subprocess.Popen[str] | None = None
        self.rows = Counter("gristmill_rows", description="Rows that were answered, errors among them.")
        self.errors = Counter("gristmill_error_rows", description="Rows that have an error.")

    def node(self) -> str:
        """Where it is."""
        import ray

        return f"{ray.util.get_node_ip_address()} ({ray.get_runtime_context().get_node_id()[:6]})"

    def order(self, task: str) -> dict[str, Any]:
        """Opens the job (`open`), or runs a shard (`3/20`), and tells what came of it."""
        why = state_dir.make_private(self.private) if self.private else None
        if why:
            return {"code": 2, "error": why}
        try:
            told = self._ask(task)
        except OSError as error:
            return {"code": 1, "error": f"cannot start gristmill: {error}"}
        if told.get("rows") and "shard" in told:
            self.rows.inc(told["rows"])
        if told.get("errors"):
            self.errors.inc(told["errors"])
        return told

    def stop(self) -> None:
        """Lets it commit what is answered."""
        process = self.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(LEAVE)
            except subprocess.TimeoutExpired:
                process.kill()

    def _ask(self, task: str) -> dict[str, Any]:
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{task}\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        line = process.stdout.readline()
        try:
            return json.loads(line)
        except ValueError:
            code = process.wait()
            why = f"gristmill run-shards ended with exit code {code}; the log of the actor says why"
            return {"code": code if code in (1, 2, 3, 130, 143) else 1, "error": why}

    def _start(self) -> subprocess.Popen[str]:
        # What this process can import, the other one can.
        paths = os.pathsep.join(path for path in sys.path if path)
        return subprocess.Popen(
            [sys.executable, "-m", "gristmill", "run-shards", *self.flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder if os.path.isdir(self.folder) else None,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
            # Ctrl-C in a terminal is for who shares out the shards.
            start_new_session=True,
        )
