"""`gristmill-ray` on a local cluster of two nodes, of which actors, workers, a node and the driver are killed: the output is that of
one machine, byte for byte.

GRISTMILL_CLUSTER_KILLS=20 does that so often, at other times each time.
"""

import json
import os
import random
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from nodes import gristmill_ray, kill_one, pause, shared
from support import COMMAND, SMALL, messages, toml

ROUNDS = int(os.environ.get("GRISTMILL_CLUSTER_KILLS", "1"))
ROWS, FILE = 3840, 192
FILES = ROWS // FILE

#: Long enough to be killed in the middle.
JOB = {**SMALL, "prompt": "{{ q }}", "max_tokens": 48, "rows_per_file": FILE, "max_error_rate": 1}
ACTORS = ["--concurrency", "3", "--num-cpus", "1"]


class Jobs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.nodes = shared()
        cls.store = cls.nodes.store
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        pq.write_table(messages(ROWS), cls.folder / "rows.parquet", row_group_size=50)
        cls.store.put("rows.parquet", (cls.folder / "rows.parquet").read_bytes())
        # What one machine makes of the job.
        cls.manifests = []
        for source, output in [("rows.parquet", "one"), ("s3://mill/rows.parquet", "one-of-store")]:
            ran = cls.command("run", cls.job("one.toml", source, output))
            assert ran.returncode == 0, ran.stderr
            # It says what the input is known by, which of an object is its ETag.
            cls.manifests.append((cls.folder / f"{output}.gristmill/manifest.json").read_bytes())
        cls.known = cls.files("one")
        assert len(cls.known) == FILES

    @classmethod
    def job(cls, name, source, output, **keys):
        (cls.folder / name).write_text(toml({**JOB, **keys, "input": source, "output": output}))
        return name

    @classmethod
    def command(cls, *arguments, **environment):
        return subprocess.run(
            [COMMAND, *arguments], cwd=cls.folder, capture_output=True, text=True, env={**os.environ, **environment}
        )

    @classmethod
    def files(cls, output):
        return {path.name: path.read_bytes() for path in (cls.folder / output).iterdir()}

    def ray(self, *arguments, **environment):
        return gristmill_ray(self.folder, *arguments, "--address", self.nodes.address, **environment)

    def done(self, driver, code=0):
        """What a driver said, once it has ended."""
        _, said = driver.communicate(timeout=300)
        self.assertEqual(driver.returncode, code, said)
        self.assertNotIn("Traceback", said)
        return said

    def is_same(self, output, said):
        """The output is that of one machine, as the driver had said and its exit code."""
        self.assertIn(f"{ROWS} rows of {FILES} shards in ", said)
        if output.startswith("s3://"):
            key = output.removeprefix("s3://mill/")
            keys = self.store.keys(f"{key}/")
            files = {name.removeprefix(f"{key}/"): self.store.get(name) for name in keys}
            beside = self.store.keys(f"{key}.gristmill/")
            self.assertIn(f"{key}.gristmill/manifest.json", beside, said)
            manifest = self.store.get(f"{key}.gristmill/manifest.json")
        else:
            files, manifest = self.files(output), (self.folder / f"{output}.gristmill/manifest.json").read_bytes()
        self.assertEqual(sorted(files), sorted(self.known))
        self.assertTrue(files == self.known)
        self.assertEqual(manifest, self.manifests[output.startswith("s3://")])
        verified = self.command("verify", output)
        self.assertEqual(verified.returncode, 0, verified.stderr)

    def finished(self, output):
        """How many shards say that they are finished."""
        if output.startswith("s3://"):
            return len(self.store.keys(f"{output.removeprefix('s3://mill/')}.gristmill/shards/"))
        return len(list((self.folder / f"{output}.gristmill/shards").glob("*/shard.json")))

    def is_published(self, output):
        beside = f"{output.removeprefix('s3://mill/')}.gristmill/manifest.json"
        return beside in self.store.keys(beside) if output.startswith("s3://") else (self.folder / beside).exists()

    def wait_for(self, output, shards, driver):
        end = time.monotonic() + 120
        while self.finished(output) < shards and driver.poll() is None and time.monotonic() < end:
            time.sleep(0.02)

    def going_on(self, driver, job):
        """The driver; another one where the node is lost that it has joined by, which Ray 2.40 takes from all of an address."""
        if not ray.__version__.startswith("2.40."):
            return driver
        try:
            if driver.wait(timeout=2) == 0:
                return driver
        except subprocess.TimeoutExpired:
            return driver
        self.assertIn("Ray has ended this program", self.done(driver, 1))
        return self.ray(job, *ACTORS)

    def test_whoever_dies_the_output_is_that_of_one_machine(self):
        killed = late = 0
        for turn in range(ROUNDS):
            dice = random.Random(turn)
            for source, output in [("rows.parquet", f"many-{turn}"), ("s3://mill/rows.parquet", f"s3://mill/many-{turn}")]:
                job = self.job("many.toml", source, output)
                driver = first = self.ray(job, *ACTORS)
                # Actors and workers die in the middle of shards, and one of the nodes.
                self.wait_for(output, 1 + dice.randrange(3), driver)
                killed += kill_one(dice, "ray::Actor")
                pause(dice, 0, 1)
                killed += kill_one(dice, "run-shards")
                pause(dice, 0, 1)
                if output.startswith("s3://") or ROUNDS > 1:
                    self.nodes.lose_node()
                    killed += 1
                    driver = self.going_on(driver, job)
                if output.startswith("s3://") == bool(turn % 2):
                    # And the driver: another one goes on.
                    killed += 1
                    self.wait_for(output, 5 + dice.randrange(4), driver)
                    driver.kill() if dice.randrange(2) else driver.terminate()
                    _, said = driver.communicate(timeout=60)
                    self.nodes.replace_node()
                    if self.is_published(output):
                        # It was as good as done when it was to die.
                        late += 1
                    else:
                        self.assertIn(driver.returncode, (-signal.SIGKILL, 143), said)
                    before = self.finished(output)
                    said = self.done(self.ray(job, *ACTORS))
                    found = int(said.split(f"{ROWS} rows in {FILES} files, of which ")[1].split()[0])
                    # A process of the first driver may have finished one after it.
                    self.assertGreaterEqual(found, before)
                else:
                    self.nodes.replace_node()
                    said = self.done(driver)
                    self.assertTrue(driver is not first or "an actor died on node" in said, said)
                self.is_same(output, said)
                # Nothing is left to do.
                again = self.done(self.ray(job, *ACTORS))
                self.assertIn(f"of which {FILES} are finished", again)
                self.is_same(output, again)
        self.assertLessEqual(late, 1 + ROUNDS // 4)
        print(f"{killed} kills of actors, workers, nodes and drivers over {2 * ROUNDS} jobs of {FILES} files: each output is that of one machine")

    def test_a_row_that_kills_again_and_again_has_an_error(self):
        tokens = [[5, 6, 301 if i == 17 else 7] for i in range(40)]
        pq.write_table(pa.table({"ids": pa.array(tokens, pa.list_(pa.int64()))}), self.folder / "ids.parquet")
        keys = {"prompt_tokens_column": "ids", "rows_per_file": 10, "max_tokens": 4}
        for output in ("poison-one", "poison-many"):
            job = {key: value for key, value in JOB.items() if key != "prompt"}
            (self.folder / f"{output}.toml").write_text(
                toml({**job, **keys, "input": "ids.parquet", "output": output})
            )
        poison = "*:token@301"
        ran = self.command("run", "poison-one.toml", GRISTMILL_FAULTS=poison)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        of_actors = json.dumps({"runtime_env": {"env_vars": {"GRISTMILL_FAULTS": poison}}})
        self.done(self.ray("poison-many.toml", "--concurrency", "2", RAY_JOB_CONFIG_JSON_ENV_VAR=of_actors))
        self.assertTrue(self.files("poison-one") == self.files("poison-many"))
        errors = pq.read_table(self.folder / "poison-many")["error"].to_pylist()
        self.assertEqual([row for row, error in enumerate(errors) if error], [17])

    def test_what_is_wrong_is_said_once_with_its_exit_code(self):
        def refused(words, *arguments, code=2):
            said = self.done(self.ray(*arguments), code)
            self.assertEqual(said.count("error: "), 1, said)
            self.assertIn(words, said)

        job = self.job("wrong.toml", "rows.parquet", "wrong")
        refused("--retry is of one run", job, "--retry", "errors")
        refused("unexpected argument '--max-token'", job, "--max-token", "5")
        refused("nothing.parquet", job, "--input", "nothing.parquet")
        # All shards together are judged, before anything is published.
        refused("have errors, more than --max-error-rate 0.1 allows", job, "--max-error-rate", "0.1", "--stop-on-errors", "--rows-per-file", "120", code=3)
        self.assertFalse((self.folder / "wrong").exists())

    def test_devices_of_two_kinds_are_refused(self):
        node = self.nodes.cluster.add_node(num_cpus=2, object_store_memory=100 << 20, env_vars={"GRISTMILL_FAULTS": "*:other@0"})
        try:
            job = self.job("mixture.toml", "rows.parquet", "mixture")
            said = self.done(self.ray(job, "--concurrency", "3", "--num-cpus", "2"), 2)
        finally:
            self.nodes.cluster.remove_node(node)
        self.assertIn("must be of one kind: node ", said)
        self.assertRegex(said, "device: begun with (cpu|other), now (cpu|other)")
        self.assertFalse((self.folder / "mixture.gristmill").exists())
