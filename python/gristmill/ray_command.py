"""The command `gristmill-ray`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from typing import Any

from gristmill import _gristmill, state_dir
from gristmill.cluster import FAILED, REFUSED, Cluster, fail, last_line
from gristmill.guard import guarded

#: What there is to give.
USAGE = "gristmill-ray [JOB] [--address ADDRESS] [--concurrency N] [--num-gpus N] [--num-cpus N] [FLAGS OF gristmill run]"

#: Seconds for which a cluster may not answer, as one that is being started.
BEGINS = 20.0


def main() -> int:
    """Runs the command line `gristmill-ray` and gives its exit code."""
    code = guarded(_run)
    if code is None:
        return fail("Ray has ended this program, as when the node is lost that it has joined by; run the same command again")
    return code


def _run() -> int:
    """The same in a process that Ray may end."""
    own, flags = _arguments(sys.argv[1:])
    driver = _gristmill.Driver(flags, USAGE)
    try:
        import ray
    except ImportError:
        return fail("Ray is not installed: pip install 'gristmill[ray]'", REFUSED)
    flags = list(driver.flags)
    if not driver.has_threads:
        flags.append(f"--threads={max(1, int(own.num_cpus))}")
    private = None
    if driver.needs_state_dir:
        private = state_dir.default(driver.output)
        why = state_dir.make_private(private)
        if why:
            return fail(why, REFUSED)
        flags.append(f"--state-dir={private}")
    failed = _join(ray, own.address)
    if failed is not None:
        return failed
    try:
        return Cluster(driver, flags, own, private).run()
    finally:
        ray.shutdown()


def _join(ray: Any, address: str | None) -> int | None:
    """Joins the cluster, or begins one; the exit code if that failed."""
    given = address or os.environ.get("RAY_ADDRESS")
    doing = f"cannot join the Ray cluster at {given}" if given else "cannot start Ray on this machine"
    silent = _does_not_answer(given)
    if silent:
        return fail(f"{doing}: {silent}; check --address, and that `ray start --head` runs there")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except ValueError as error:
        return fail(f"{doing}: {last_line(error)}", REFUSED)
    # Ray raises many kinds of errors here, and plain ones.
    except Exception as error:
        refused = "uthentication" in type(error).__name__ or "token" in str(error)
        return fail(f"{doing}: {last_line(error)}", REFUSED if refused else FAILED)
    return None


def _does_not_answer(address: str | None) -> str | None:
    """Why nothing listens at an address of a host and a port. Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or "://" in address or not port.isdecimal():
        return None
    end = time.monotonic() + BEGINS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return None
        except (OSError, OverflowError) as error:
            if time.monotonic() > end or isinstance(error, (OverflowError, socket.gaierror)):
                return getattr(error, "strerror", None) or str(error)
            time.sleep(1)


def _arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of this command, and those of the job."""
    parser = argparse.ArgumentParser(
        prog="gristmill-ray",
        usage=USAGE,
        description="Run a job file over a Ray cluster: the output of one machine, whoever dies. Each file of the output "
        "(--rows-per-file) is run by itself; the same command goes on where one was stopped. All flags of `gristmill run` "
        "go over the keys of the job file. Exit codes are those of `gristmill run`.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gristmill {_gristmill.__version__}")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="the cluster, or auto for that of this machine [default: RAY_ADDRESS, or a new one]"
    )
    parser.add_argument("--concurrency", type=_count, default=1, metavar="N", help="actors, each with a model [default: 1]")
    parser.add_argument("--num-gpus", type=_share, default=0, metavar="N", help="GPUs of each actor [default: 0]")
    parser.add_argument(
        "--num-cpus", type=_share, default=1, metavar="N", help="cores of each actor, and threads of its engine [default: 1]"
    )
    return parser.parse_known_args(arguments)


def _count(text: str) -> int:
    if not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 10000")
    return int(text)


def _share(text: str) -> float:
    if not 0 <= float(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1024")
    return float(text)
