from os import PathLike
from types import TracebackType
from typing import Any, Protocol

import pyarrow

__version__: str

class Rows(Protocol):
    """A table or a reader of pyarrow, Polars, DuckDB or pandas, or what else has this."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class Engine:
    """A model on a device, loaded once, that answers rows.

    `options` are the keys of a job file, with underscores (`return` is `returns`): those of the model and the device
    (`model`, `device`, `threads`, `max_model_len`, ...) hold for all runs, and others are what runs begin with. `job` is a
    job file below them, of which what is of files (`input`, `output`, ...) is left aside.

    It works in the process that made it, and in none that is forked from that.

    Raises UsageError, ModelError or DeviceError.
    """

    def __init__(self, *, job: str | PathLike[str] | None = None, **options: Any) -> None: ...
    @property
    def model(self) -> str:
        """The model's name, as it was given."""
    @property
    def device(self) -> str:
        """The device's name."""
    def run(self, rows: Rows, /, *, first_row: int = 0, **options: Any) -> pyarrow.Table:
        """Answers all rows of a table.

        The answers are those of the command line, in the columns that its Parquet file has. A row that cannot be answered
        has its `error`. Rows are numbered from `first_row`, which matters where answers are drawn at random. `options` are
        keys of a job file over those of the engine; those of the model and the device are the engine's.

        There is no journal: what ends a run ends it without answers. Ctrl-C ends it.

        Raises UsageError, InputError or DeviceError.
        """
    def stream(self, rows: Rows, /, *, first_row: int = 0, **options: Any) -> pyarrow.RecordBatchReader:
        """Answers rows as they come, in their order.

        At most 65,536 rows (or 256 MiB of them) are between the reader that is given and the one that is returned, unless
        one of their batches has more. The engine is at work until all is taken or the reader is deleted; `close` of a pyarrow
        reader, and the end of a `with` over it, delete nothing.

        Raises as `run`, also while the reader is read.
        """
    def close(self) -> None:
        """Frees the model."""
    def __enter__(self) -> Engine: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

class Error(Exception):
    exit_code: int

class UsageError(Error, ValueError): ...
class InputError(Error, ValueError): ...
class ModelError(Error): ...
class DeviceError(Error, RuntimeError): ...

def main() -> int:
    """Runs the command line `gristmill` and gives its exit code."""
