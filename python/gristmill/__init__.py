"""Offline batch inference: a table of prompts goes in, a table of answers comes out, and nothing leaves the machine.

    import gristmill, pyarrow.parquet as pq

    engine = gristmill.Engine(model="nano")
    table = engine.run(pq.read_table("messages.parquet"), prompt="{{ message }}", max_tokens=12, temperature=0)

Options are the keys of a job file, with underscores.
"""

from __future__ import annotations

from gristmill.errors import DeviceError, Error, InputError, ModelError, UsageError
from gristmill._gristmill import Engine, __version__

__all__ = ["DeviceError", "Engine", "Error", "InputError", "ModelError", "UsageError", "main", "__version__"]


def main() -> int:
    """Runs the command line `gristmill` and gives its exit code."""
    import os
    import signal
    import sys
    import tempfile

    from gristmill import _gristmill

    # Ctrl-C is the command line's own from here on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Vulkan drivers print an error where no desktop has set this, and nothing here needs a desktop.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    return _gristmill.main(["gristmill", *sys.argv[1:]], [sys.executable, "-m", "gristmill"])
