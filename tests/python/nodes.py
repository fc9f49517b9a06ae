"""A local cluster of Ray with two nodes, for all tests of a process."""

import atexit
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from store import Store

MARK = f"GRISTMILL_CLUSTER={os.getpid()}"
os.environ["GRISTMILL_CLUSTER"] = str(os.getpid())
os.environ["RAY_DEDUP_LOGS"] = "0"

#: What a node has.
NODE = {"num_cpus": 2, "object_store_memory": 100 << 20}


#: How soon Ray takes a node that does not answer for dead: in some seconds, and not in half a minute.
SOON = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 4}


class Nodes:
    """The cluster, and a store that its actors are pointed to."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.store = Store(sys.executable)
        # Its actors have what is in the environment as it starts.
        os.environ.update(self.store.environment())
        self.cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": SOON})
        self.other = self.cluster.add_node(**NODE)
        self.address = self.cluster.address

    def lose_node(self):
        """Kills the node that is not the head."""
        self.cluster.remove_node(self.other, allow_graceful=False)
        self.other = None

    def replace_node(self):
        """Adds a new one where one was lost, which takes as long as some files of a job."""
        self.other = self.other or self.cluster.add_node(**NODE)

    def stop(self):
        self.cluster.shutdown()
        self.store.stop()


@functools.cache
def shared():
    """The cluster of this process, which ends with it."""
    nodes = Nodes()
    atexit.register(nodes.stop)
    return nodes


def processes(*words):
    """The processes of this cluster in whose command line one of the words is."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, given = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if any(word.encode() in name for word in words) and MARK.encode() in given.split(b"\0"):
            found.add(int(process.name))
    return found


def kill_one(dice, *words):
    """Kills one of these processes, if there are any."""
    found = sorted(processes(*words))
    if found:
        try:
            os.kill(dice.choice(found), signal.SIGKILL)
        except ProcessLookupError:
            return 0
    return len(found[:1])


def gristmill_ray(folder, *arguments, **environment):
    """The command, begun in a folder."""
    code = "import sys; from gristmill.ray_command import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def pause(dice, least, most):
    time.sleep(dice.uniform(least, most))
