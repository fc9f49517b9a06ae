"""A long stream through `gristmill.Engine` on a device that only pretends: each row once, in order, in bounded memory."""

import os
import time
import unittest

os.environ["GRISTMILL_PRETEND"] = "0,0"

import gristmill
import pyarrow as pa
from support import SMALL

ROWS = int(os.environ.get("GRISTMILL_STREAM_ROWS", 40_000))
BATCH = 1000
SCHEMA = pa.schema([("id", pa.int64()), ("q", pa.string())])

#: By so much, in KiB, may the peak of memory rise after the first quarter, however many rows there are.
SLACK = 2 << 10


def batches():
    """Prompts; one row in 100 has none."""
    for at in range(0, ROWS, BATCH):
        ids = range(at, at + BATCH)
        yield pa.record_batch([pa.array(ids), [None if i % 100 == 7 else f"the mill of village {i}" for i in ids]], SCHEMA)


def peak():
    """The most memory that was resident so far, in KiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


class LongStream(unittest.TestCase):
    @unittest.skipUnless(os.path.exists("/proc/self/status"), "memory is read from /proc")
    def test_each_row_once_in_order_in_bounded_memory(self):
        engine = gristmill.Engine(**{**SMALL, "temperature": 1})
        self.assertEqual(engine.device, "a device that pretends")
        rows = errors = 0
        quarter, begun = None, time.monotonic()
        for answers in engine.stream(pa.RecordBatchReader.from_batches(SCHEMA, batches()), prompt_column="q"):
            self.assertEqual(answers["id"], pa.array(range(rows, rows + answers.num_rows)))
            self.assertEqual(answers["generated_text"].is_null(), answers["error"].is_valid())
            rows += answers.num_rows
            errors += answers.num_rows - answers["error"].null_count
            if quarter is None and rows >= ROWS // 4:
                quarter = peak()
        self.assertEqual((rows, errors), (ROWS, ROWS // 100))
        most = peak()
        rate = rows / (time.monotonic() - begun)
        print(f"{rows} rows of Python in a stream, {rate:.0f} a second, peak {quarter} KiB in the first quarter and {most} KiB in all")
        self.assertLessEqual(most, quarter + SLACK)


if __name__ == "__main__":
    unittest.main()
