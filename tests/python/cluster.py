"""`gristmill.ray.grind` on a local cluster of two nodes, of which an actor is killed while it works."""

import os
import signal
import tempfile
import unittest
from pathlib import Path

os.environ["GRISTMILL_CLUSTER"] = str(os.getpid())
os.environ["RAY_DEDUP_LOGS"] = "0"

import gristmill
import pyarrow as pa
import ray
from gristmill.ray import grind
from ray.cluster_utils import Cluster
from support import SMALL, messages, toml

ROWS = 300
JOB = {**SMALL, "prompt": "{{ q }}", "max_tokens": 24}


def actors():
    """The processes of this cluster's actors that answer rows."""
    mine = f"GRISTMILL_CLUSTER={os.getpid()}".encode()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, given = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if b"ray::" in name and b"MapWorker" in name and mine in given.split(b"\0"):
            found.add(int(process.name))
    return found


class RayCluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        node = {"num_cpus": 2, "object_store_memory": 100 << 20}
        cls.cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        cls.cluster.add_node(**node)
        ray.init(address=cls.cluster.address, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False

    @classmethod
    def tearDownClass(cls):
        ray.shutdown()
        cls.cluster.shutdown()

    def test_an_actor_that_is_killed_costs_no_row(self):
        table = messages(ROWS)
        with tempfile.TemporaryDirectory() as folder:
            job = Path(folder, "job.toml")
            job.write_text(toml({**JOB, "input": "nothing.parquet", "output": "nothing.parquet"}))
            ds = ray.data.from_arrow([table.slice(at, 25) for at in range(0, ROWS, 25)])
            answers = grind(ds, job, concurrency=2, num_cpus=1, batch_rows=25)
            batches, killed = [], None
            for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
                batches.append(batch)
                if killed is None:
                    killed = min(actors())
                    os.kill(killed, signal.SIGKILL)
        self.assertGreater(len(batches), 2)
        self.assertIsNotNone(killed)
        for batch in batches:
            # Order within a block.
            self.assertEqual(batch["id"].to_pylist(), sorted(batch["id"].to_pylist()))
        known = gristmill.Engine(**SMALL).run(table, prompt="{{ q }}", max_tokens=24)
        got = pa.concat_tables(batches).sort_by("id")
        self.assertEqual(got.column_names, known.column_names)
        self.assertEqual(got.to_pylist(), known.to_pylist())
        self.assertEqual(sum(error is not None for error in got["error"].to_pylist()), ROWS // 7)

    def test_batches_draw_their_own_numbers_and_the_same_again(self):
        table = pa.table({"q": ["the wheel"] * 40, "id": range(40)})
        ds = ray.data.from_arrow([table.slice(0, 20), table.slice(20, 20)])
        given = {**SMALL, "prompt": "{{ q }}", "temperature": 1, "seed": 5, "concurrency": 1, "batch_rows": 20}
        one, other = (
            {row["id"]: row["generated_text"] for row in grind(ds, **given).take_all()} for _ in range(2)
        )
        self.assertEqual(one, other)
        self.assertNotEqual([one[i] for i in range(20)], [one[i] for i in range(20, 40)])


if __name__ == "__main__":
    unittest.main()
