"""A local cluster of two nodes: `gristmill.ray.grind`, of which an actor is killed while it works, and `gristmill-ray`."""

import os
import signal
import tempfile
import threading
import time
import unittest
from pathlib import Path

import nodes
import gristmill
import pyarrow as pa
import ray
from cluster_jobs import Jobs  # noqa: F401, whose tests run, too
from gristmill.ray import grind
from support import SMALL, messages, toml

ROWS = 300
JOB = {**SMALL, "prompt": "{{ q }}", "max_tokens": 24}


def kill_one_at_work(killed):
    """Kills the first actor that answers rows."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        # Ray names a process by what it does: 2.40 by the operator, later ones by the actor's method.
        for actor in nodes.processes("ray::MapBatches(_Grinder)", "MapWorker(MapBatches(_Grinder)).submit"):
            os.kill(actor, signal.SIGKILL)
            killed.append(actor)
            return
        time.sleep(0.01)


class RayCluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        ray.init(address=nodes.shared().address, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False

    @classmethod
    def tearDownClass(cls):
        ray.shutdown()

    def test_an_actor_that_is_killed_costs_no_row(self):
        table = messages(ROWS)
        with tempfile.TemporaryDirectory() as folder:
            job = Path(folder, "job.toml")
            job.write_text(toml({**JOB, "input": "nothing.parquet", "output": "nothing.parquet"}))
            ds = ray.data.from_arrow([table.slice(at, 25) for at in range(0, ROWS, 25)])
            answers = grind(ds, job, concurrency=2, num_cpus=1, batch_rows=25)
            killed = []
            killer = threading.Thread(target=kill_one_at_work, args=(killed,))
            killer.start()
            batches = list(answers.iter_batches(batch_size=None, batch_format="pyarrow"))
            killer.join()
        self.assertGreater(len(batches), 2)
        self.assertEqual(len(killed), 1)
        for batch in batches:
            # Order within a block.
            self.assertEqual(batch["id"].to_pylist(), sorted(batch["id"].to_pylist()))
        known = gristmill.Engine(**SMALL).run(table, prompt="{{ q }}", max_tokens=24)
        got = pa.concat_tables(batches).sort_by("id")
        self.assertEqual(got.column_names, known.column_names)
        self.assertEqual(got.to_pylist(), known.to_pylist())
        self.assertEqual(sum(error is not None for error in got["error"].to_pylist()), ROWS // 7)
        print(f"Ray {ray.__version__}: {got.num_rows} rows on two nodes with an actor killed")

    def test_batches_draw_their_own_numbers_and_the_same_again(self):
        table = pa.table({"q": ["the wheel"] * 40, "id": range(40)})
        ds = ray.data.from_arrow([table.slice(0, 20), table.slice(20, 20)])
        given = {**SMALL, "prompt": "{{ q }}", "temperature": 1, "seed": 5, "concurrency": 1, "batch_rows": 20}
        one, other = (
            {row["id"]: row["generated_text"] for row in grind(ds, **given).take_all()} for _ in range(2)
        )
        self.assertEqual(one, other)
        self.assertNotEqual([one[i] for i in range(20)], [one[i] for i in range(20, 40)])


# What fails may leave a node lost, and Ray ends who joins such a cluster.
if __name__ == "__main__":
    unittest.main(failfast=True)
