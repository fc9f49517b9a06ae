"""A command in a process of its own, whose exit code is believed only if it has said it.

Ray 2.40 ends a program with exit code 0 when the node that it has joined by is lost.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Callable

#: Of Linux: the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1


def guarded(run: Callable[[], int]) -> int | None:
    """Runs a command and gives its exit code; none if it ended with 0 and without saying so. Ends by the signal that ended it."""
    if not hasattr(os, "fork"):
        return run()
    told, tells = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(told)
        _die_with(parent)
        sys.exit(_say(run, tells))
    os.close(tells)
    # Ctrl-C in a terminal goes to both.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    said = os.read(told, 1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        _die_of(os.WTERMSIG(status))
    return said[0] if said else os.WEXITSTATUS(status) or None


def _die_with(parent: int) -> None:
    """Whoever kills the command kills this process, too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _say(run: Callable[[], int], tells: int) -> int:
    """Runs the command, and says its exit code."""
    code = 1
    try:
        code = run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        os.write(tells, bytes([code]))
    return code


def _die_of(number: int) -> None:
    """Ends this process by a signal, as whoever waits for it expects."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
