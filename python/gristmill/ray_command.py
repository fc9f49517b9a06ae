"""The command `gristmill-ray`."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile

from gristmill import _gristmill
from gristmill.cluster import REFUSED, Cluster, fail, last_line


def main() -> int:
    """Runs the command line `gristmill-ray` and gives its exit code."""
    own, flags = _arguments(sys.argv[1:])
    driver = _gristmill.Driver(flags)
    try:
        import ray
    except ImportError:
        return fail("Ray is not installed: pip install 'gristmill[ray]'", REFUSED)
    flags = list(driver.flags)
    if not driver.has_threads:
        flags.append(f"--threads={max(1, int(own.num_cpus))}")
    if driver.needs_state_dir:
        flags.append(f"--state-dir={_state_dir(driver.output)}")
    try:
        ray.init(address=own.address, log_to_driver=False, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError) as error:
        return fail(f"cannot join the Ray cluster: {last_line(error)}")
    try:
        return Cluster(driver, flags, own).run()
    finally:
        ray.shutdown()


def _arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of this command, and those of the job."""
    parser = argparse.ArgumentParser(
        prog="gristmill-ray",
        usage="gristmill-ray [JOB] [--address ADDRESS] [--concurrency N] [--num-gpus N] [--num-cpus N] [FLAGS OF gristmill run]",
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


def _state_dir(output: str) -> str:
    """The folder of journals of an output in a store, on each machine."""
    name = hashlib.blake2b(output.encode(), digest_size=8).hexdigest()
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return os.path.join(tempfile.gettempdir(), f"gristmill-{user}", name)
