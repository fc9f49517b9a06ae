"""What `gristmill-ray` costs beside the rows: files a second with 1, 2, 4 and 8 actors on this machine, the driver's own processor
time for each file, requests to a store, and what it keeps there.

    python benches/clusters.py [FILES]

It needs the package on PYTHONPATH, Ray, and moto_server beside this Python. Rows are few and short, so that what is measured is
everything but them.
"""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/python"))
os.environ.setdefault("GRISTMILL", "gristmill")

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from store import Store
from support import SMALL, toml

ROWS_PER_FILE = 8


#: The greatest resident memory of an actor's processes, in MiB.
MEMORY = {}


def watch():
    """Looks at the memory of actors and of their processes."""
    while True:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                name = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                status = (process / "status").read_text()
            except OSError:
                continue
            what = "actor" if b"ray::Actor" in name else "gristmill" if b"run-shards" in name else None
            if what and "VmRSS:" in status:
                size = int(status.split("VmRSS:")[1].split()[0]) / 1024
                # Its supervisor and its worker have the same command line: the worker is the child.
                parent = int(status.split("PPid:")[1].split()[0])
                if what == "gristmill":
                    try:
                        above = Path(f"/proc/{parent}/cmdline").read_bytes()
                    except OSError:
                        continue
                    what = "worker" if b"run-shards" in above else "supervisor"
                MEMORY[what] = max(MEMORY.get(what, 0), size)
        time.sleep(0.2)


def run(folder, actors, address, output, rows):
    """Seconds of wall time and of the driver's processor time, from the first file to the output."""
    job = {**SMALL, "prompt": "{{ q }}", "max_tokens": 1, "rows_per_file": ROWS_PER_FILE}
    (folder / "job.toml").write_text(toml({**job, "input": str(rows), "output": output}))
    code = "import sys; from gristmill.ray_command import main; sys.exit(main())"
    arguments = ["job.toml", "--address", address, "--concurrency", str(actors), "--log-format", "json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.time()
    ran = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, stderr=subprocess.PIPE, text=True)
    ended = time.time()
    assert ran.returncode == 0, ran.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = next(line for line in ran.stderr.splitlines() if "are finished" in line)
    stamp = started.split('"timestamp":"')[1].split('"')[0].rstrip("Z")
    first = datetime.fromisoformat(stamp[:26]).replace(tzinfo=timezone.utc).timestamp()
    return ended - first, first - begun, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    threading.Thread(target=watch, daemon=True).start()
    store = Store(sys.executable)
    os.environ.update(store.environment())
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="warning")
    address = ray.get_runtime_context().gcs_address
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.parquet"

        def table(count):
            pq.write_table(pa.table({"q": [f"wheel {i}" for i in range(count * ROWS_PER_FILE)]}), rows, row_group_size=800)

        print("| output | actors | files | start, s | files a second | driver's processor time for a file, ms |")
        print("|---|---|---|---|---|---|")
        figures = {}
        for place in ("local", "store"):
            for actors in (1, 2, 4, 8):
                count = files if place == "local" else files // 2
                table(count)
                output = f"{place}-{actors}" if place == "local" else f"s3://mill/{place}-{actors}"
                wall, start, processor = run(folder, actors, address, output, rows)
                figures[place, actors] = processor, count
                print(f"| {place} | {actors} | {count} | {start:.1f} | {count / wall:.1f} | {1000 * processor / count:.1f} |", flush=True)
        # Of two numbers of files, what each of them adds.
        seen = []
        for count in (10, 30):
            table(count)
            before = store.requests()
            _, _, processor = run(folder, 1, address, f"s3://mill/requests-{count}", rows)
            asked = store.requests() - before
            sizes = len(store.get(f"requests-{count}.gristmill/manifest.json")), len(store.get(f"requests-{count}.gristmill/shards/1-of-{count}.json"))
            seen.append((asked, *sizes, processor))
        (few, small, _, cheap), (many, large, record, dear) = seen
        print(f"requests: {few} for 10 files, {many} for 30: {(many - few) / 20:.1f} for each and {few - (many - few) / 2:.0f} besides")
        print(f"manifest: {(large - small) / 20:.0f} bytes for each file; what a shard says of itself: {record} bytes")
        print(f"driver: {1000 * (dear - cheap) / 20:.1f} ms of processor time for each file, with an output in a store")
        print(f"memory, at most: {', '.join(f'{what} {size:.0f} MiB' for what, size in sorted(MEMORY.items()))}")
    ray.shutdown()
    store.stop()


main()
