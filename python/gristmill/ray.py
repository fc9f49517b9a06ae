"""gristmill inside Ray Data: each actor loads the model once and answers blocks of rows.

    import ray
    from gristmill.ray import grind

    ds = ray.data.read_parquet("s3://bucket/messages/")
    grind(ds, "job.toml", concurrency=8, num_gpus=1).write_parquet("s3://bucket/answers/")
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import ray.data

__all__ = ["grind"]


def grind(
    ds: ray.data.Dataset,
    job: str | os.PathLike[str] | None = None,
    *,
    concurrency: int | tuple[int, int] = 1,
    num_gpus: float | None = None,
    num_cpus: float | None = None,
    batch_rows: int = 4096,
    **options: Any,
) -> ray.data.Dataset:
    """Answers each row of a dataset.

    `job` is a job file; `input`, `output` and what else is of files in it is left aside, and `options` are keys over it.
    It is read here. Files that it names, a model's folder or a template, must be where the actors run.

    There are `concurrency` actors (or from `a` to `b` of them, with `(a, b)`), each with so many GPUs and CPUs; with
    `num_cpus` an engine has as many threads, unless the job says how many. `batch_rows` rows run together, and come back in their order. More of them keep a device
    busier; fewer are less to do again when an actor dies.

    Rows that fail are rows with an `error`. With greedy sampling an answer is that of any other machine with the same kind of
    device. What is drawn at random is a function of the batch that a row is in.
    """
    from ray.data import ActorPoolStrategy

    text = None if job is None else Path(job).read_text(encoding="utf-8")
    if num_cpus and num_cpus >= 1 and "threads" not in options:
        if text is None or not re.search(r"^\s*[\"']?threads\b", text, re.MULTILINE):
            options["threads"] = int(num_cpus)
    path = None if job is None else str(Path(job).resolve())
    # Ray's own `concurrency` for actors has gone out of use; this has all that versions from 2.40 on know.
    if isinstance(concurrency, tuple):
        actors = ActorPoolStrategy(min_size=concurrency[0], max_size=concurrency[1])
    else:
        actors = ActorPoolStrategy(size=concurrency)
    resources = {"num_gpus": num_gpus, "num_cpus": num_cpus}
    return ds.map_batches(
        _Grinder,
        fn_constructor_args=(path, text, options),
        compute=actors,
        batch_format="pyarrow",
        batch_size=batch_rows,
        zero_copy_batch=True,
        **{name: value for name, value in resources.items() if value is not None},
    )


class _Grinder:
    """An actor: an engine, and what Ray's metrics say of it."""

    def __init__(self, path: str | None, text: str | None, options: dict[str, Any]) -> None:
        from ray.util.metrics import Counter

        from gristmill import Engine

        # Vulkan drivers print an error where no desktop has set this, and this process is an actor's own.
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
        self.engine = Engine(job=path, _job_text=text, **options)
        self.rows = Counter("gristmill_rows", description="Rows that were answered, errors among them.")
        self.errors = Counter("gristmill_error_rows", description="Rows that have an error.")

    def __call__(self, batch: pa.Table) -> pa.Table:
        answers = self.engine.run(batch, first_row=_first_row(batch))
        if answers.num_rows:
            self.rows.inc(answers.num_rows)
        errors = answers.num_rows - answers[self.error_column(batch, answers)].null_count
        if errors:
            self.errors.inc(errors)
        return answers


    @staticmethod
    def error_column(batch: pa.Table, answers: pa.Table) -> str:
        """`error`, with the prefix of the job."""
        new = [name for name in answers.column_names if name not in batch.column_names]
        return next(name for name in new if name.endswith("error"))


def _first_row(batch: pa.Table) -> int:
    """A number for the first row of a batch that follows from what is in it: nothing here knows where the batch lies, a batch
    that is done again must draw the same, and two batches must not."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch.combine_chunks())
    return int.from_bytes(hashlib.blake2b(sink.getvalue(), digest_size=4).digest(), "little") // 2
