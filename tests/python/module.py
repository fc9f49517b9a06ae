"""`gristmill.Engine`: rows in memory are answered as those of files."""

import os
import signal
import tempfile
import threading
import time
import unittest
from datetime import date, datetime, time as clock, timezone
from decimal import Decimal

import duckdb
import gristmill
import pandas as pd
import polars as pl
import pyarrow as pa
from support import GOLDEN, SMALL, by_command, messages

#: Jobs of each kind, over the columns `id` and `q`.
JOBS = {
    "text": {"prompt": "{{ q }}", "returns": ["generated_tokens", "token_logprobs", "logprobs", "prompt_logprobs"]},
    "samples": {"prompt": "{{ q }}", "temperature": 1, "seed": 7, "n": 2, "keep": ["id"]},
    "stop": {"prompt_column": "q", "stop": ["e"], "column_prefix": "a_"},
    "choices": {"prompt": "{{ q }}", "columns": {"kind": {"choices": ["a", "b c"], "ask": "which?"}, "b": {"choices": ["x", "y"]}}},
    "structure": {"prompt": "{{ q }}", "max_tokens": 40, "structured_outputs": {"json": {
        "type": "object", "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "yy"]}}, "required": ["a", "b"]}},
        "returns": ["field_probabilities"]},
    "documents": {"documents": {"column": "q", "map-prompt": "{{ chunk }}", "reduce-prompt": "{{ notes }}"}, "returns": ["chunks"], "max_tokens": 2},
}

#: A value of each type that an output keeps.
TYPES = {
    "bool": (pa.bool_(), True),
    "i8": (pa.int8(), -8),
    "u16": (pa.uint16(), 16),
    "i32": (pa.int32(), -32),
    "u64": (pa.uint64(), 2**63 + 1),
    "f16": (pa.float16(), 0.5),
    "f32": (pa.float32(), 0.25),
    "f64": (pa.float64(), 0.1),
    "decimal": (pa.decimal128(12, 3), Decimal("12.345")),
    "date": (pa.date32(), date(2026, 11, 27)),
    "time": (pa.time64("us"), clock(12, 34, 56, 789)),
    "moment": (pa.timestamp("ms"), datetime(2026, 11, 27)),
    "zone": (pa.timestamp("us", "Europe/Berlin"), datetime(2026, 11, 27, tzinfo=timezone.utc)),
    "text": (pa.string(), "süß"),
    "large": (pa.large_string(), "large"),
    "bytes": (pa.binary(), b"\x00\xff"),
    "fixed": (pa.binary(3), b"abc"),
    "list": (pa.list_(pa.int32()), [1, None, 3]),
    "sized": (pa.list_(pa.float32(), 2), [1.0, 2.0]),
    "struct": (pa.struct([("a", pa.int8()), ("b", pa.string())]), {"a": 1, "b": None}),
    "map": (pa.map_(pa.string(), pa.int32()), [("k", 1)]),
    "names": (pa.dictionary(pa.int8(), pa.string()), "red"),
    "view": (pa.string_view(), "a text that is longer than twelve bytes"),
}


class Module(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.engine = gristmill.Engine(**SMALL)

    def assertSame(self, one, other):
        self.assertEqual(one.schema, other.schema)
        self.assertEqual(one.schema.metadata, other.schema.metadata)
        # Dictionaries of equal values may differ.
        self.assertEqual(one.to_pylist(), other.to_pylist())

    def test_each_kind_of_job_as_by_the_command_line(self):
        table = messages(40)
        for name, job in JOBS.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                given = {key: value for key, value in {**SMALL, **job}.items() if name != "choices" or key not in ("temperature", "max_tokens")}
                known = by_command(folder, table, given)
                model = {key: given.pop(key) for key in ("model", "device", "threads")}
                engine = gristmill.Engine(**model) if name == "choices" else self.engine
                self.assertSame(engine.run(table, **given), known)
                # Of its job file, in whose folder the rows are not.
                os.remove(f"{folder}/rows.arrow")
                by_file = gristmill.Engine(job=f"{folder}/job.toml")
                self.assertSame(by_file.run(table), known)

    def test_all_types_come_back_as_the_command_line_keeps_them(self):
        columns = {name: pa.array([value, None, value], kind) for name, (kind, value) in TYPES.items()}
        table = pa.table({"q": ["a", "b", "c"], **columns})
        with tempfile.TemporaryDirectory() as folder:
            known = by_command(folder, table, {**SMALL, "prompt": "{{ q }} {{ i8 or 0 }} {{ view or '' }}"})
        self.assertSame(self.engine.run(table, prompt="{{ q }} {{ i8 or 0 }} {{ view or '' }}"), known)

    def test_tables_of_other_libraries(self):
        table = messages_table = messages(30)
        known = self.engine.run(table, prompt="{{ q }}")
        given = {
            "batches": pa.RecordBatchReader.from_batches(table.schema, table.to_batches(7)),
            "batch": table.to_batches()[0],
            "polars": pl.from_arrow(table),
            "pandas": pd.DataFrame({"id": range(30), "q": table["q"].to_pylist()}),
            "duckdb": duckdb.sql("SELECT id, q FROM messages_table"),
        }
        for name, rows in given.items():
            with self.subTest(name):
                answers = self.engine.run(rows, prompt="{{ q }}")
                for column in ("id", "q", "generated_text", "num_input_tokens", "error"):
                    self.assertEqual(answers[column].to_pylist(), known[column].to_pylist(), column)
        # And back.
        self.assertEqual(pl.from_arrow(known)["generated_text"].to_list(), known["generated_text"].to_pylist())
        self.assertEqual(len(known.to_pandas()), 30)
        self.assertEqual(duckdb.sql("SELECT count(error) FROM known").fetchall(), [(4,)])

    def test_rows_that_fail_are_rows(self):
        answers = self.engine.run(messages(21), prompt="{{ q }}")
        failed = [row["id"] for row in answers.to_pylist() if row["error"]]
        self.assertEqual(failed, [6, 13, 20])
        self.assertEqual(answers["finish_reason"].to_pylist().count("error"), 3)
        self.assertEqual(self.engine.run(messages(0), prompt="{{ q }}").num_rows, 0)

    def test_numbers_of_rows_decide_what_is_drawn(self):
        table, given = messages(20), {"prompt": "{{ q }}", "temperature": 1, "seed": 1}
        whole = self.engine.run(table, **given)
        parts = [self.engine.run(table.slice(at, 10), first_row=at, **given) for at in (0, 10)]
        self.assertTrue(pa.concat_tables(parts).combine_chunks().equals(whole.combine_chunks()))
        self.assertFalse(self.engine.run(table, first_row=99, **given).equals(whole))

    def test_a_stream_takes_no_more_than_a_window(self):
        rows, pulled = 300_000, 0
        schema = pa.schema([("q", pa.string())])

        def batches():
            nonlocal pulled
            for at in range(0, rows, 1000):
                pulled = at + 1000
                yield pa.record_batch([pa.array([f"{at % 3}"] * 1000)], schema)

        reader = self.engine.stream(pa.RecordBatchReader.from_batches(schema, batches()), prompt="{{ q }}", max_tokens=1)
        taken = 0
        for batch in reader:
            taken += batch.num_rows
            if taken < 5000:
                time.sleep(0.5)
            self.assertLessEqual(pulled - taken, 65_536 + 4096)
            if taken > 150_000:
                break
        with self.assertRaisesRegex(gristmill.UsageError, "at work"):
            self.engine.run(messages(1), prompt="{{ q }}")
        del reader
        self.assertEqual(self.engine.run(messages(1), prompt="{{ q }}").num_rows, 1)
        self.assertLess(pulled, rows)

    def test_what_is_wrong_is_an_exception_with_the_message_of_the_command_line(self):
        table = messages(3)
        for error, given, text in [
            (gristmill.UsageError, {"prompt": "{{ a }}"}, "no column `a`"),
            (gristmill.UsageError, {"prompt": "{{ q"}, "prompt"),
            (gristmill.UsageError, {"prompt": "{{ q }}", "max_token": 1}, "unknown key `max_token`"),
            (gristmill.UsageError, {"prompt": "{{ q }}", "temperature": "hot"}, "hot"),
            (gristmill.UsageError, {"prompt": "{{ q }}", "output": "a.parquet"}, "`output` is of jobs"),
            (gristmill.UsageError, {"prompt": "{{ q }}", "device": "cpu"}, "gristmill.Engine"),
            (TypeError, {"prompt": b"{{ q }}"}, "`prompt`: takes text"),
        ]:
            with self.subTest(text), self.assertRaisesRegex(error, text):
                self.engine.run(table, **given)
        with self.assertRaises(gristmill.ModelError) as raised:
            gristmill.Engine(model="/nowhere/model")
        self.assertEqual(raised.exception.exit_code, 2)
        with self.assertRaises(TypeError):
            self.engine.run([1, 2], prompt="{{ q }}")

        def broken():
            yield messages(2).to_batches()[0]
            raise OSError("the disk is gone")

        reader = pa.RecordBatchReader.from_batches(messages(1).schema, broken())
        with self.assertRaisesRegex(gristmill.InputError, "the disk is gone"):
            self.engine.run(reader, prompt="{{ q }}")
        self.assertEqual(self.engine.run(table, prompt="{{ q }}").num_rows, 3)

    def test_a_device_that_fails(self):
        os.environ["GRISTMILL_FAULTS"] = "*:lost@3"
        try:
            engine = gristmill.Engine(**SMALL)
        finally:
            del os.environ["GRISTMILL_FAULTS"]
        with self.assertRaises(gristmill.DeviceError):
            engine.run(messages(20), prompt="{{ q }}")
        with self.assertRaisesRegex(gristmill.UsageError, "failed in an earlier run"):
            engine.run(messages(20), prompt="{{ q }}")

    def test_ctrl_c_ends_a_run_and_the_engine_goes_on(self):
        # A parent in the background may have had it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        known = self.engine.run(messages(20), prompt="{{ q }}")
        text = pa.table({"q": [f"{i} times" for i in range(100_000)]})
        for run in (lambda: self.engine.run(text, prompt="{{ q }}", max_tokens=200),
                    lambda: self.engine.stream(text, prompt="{{ q }}", max_tokens=200).read_all()):
            threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
            with self.assertRaises(KeyboardInterrupt):
                run()
            self.assertTrue(self.engine.run(messages(20), prompt="{{ q }}").equals(known))

    def test_two_engines_in_two_threads_leave_the_interpreter_free(self):
        table, answers, steps = messages(60), {}, 0
        known = self.engine.run(table, prompt="{{ q }}", max_tokens=30)

        def work(name):
            answers[name] = gristmill.Engine(**SMALL).run(table, prompt="{{ q }}", max_tokens=30)

        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            steps += 1
            time.sleep(0.001)
        self.assertGreater(steps, 20)
        self.assertTrue(answers["a"].equals(known) and answers["b"].equals(known))

    def test_a_closed_engine_says_so(self):
        with gristmill.Engine(**SMALL) as engine:
            self.assertEqual(engine.model, str(GOLDEN))
            self.assertIn("thread", engine.device)
        with self.assertRaisesRegex(gristmill.UsageError, "closed"):
            engine.run(messages(1), prompt="{{ q }}")


if __name__ == "__main__":
    unittest.main()
