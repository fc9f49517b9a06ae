"""`gristmill.Engine`: rows in memory are answered as those of files."""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import unittest
from datetime import date, datetime, time as clock, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import duckdb
import gristmill
import numpy
import pandas as pd
import polars as pl
import pyarrow as pa
from support import GOLDEN, SMALL, by_command, messages, python

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

#: A value of each type that Parquet holds and pyarrow reads from it as it was, which the command line keeps.
TYPES = {
    "null": (pa.null(), None),
    "bool": (pa.bool_(), True),
    **{f"{sign}int{bits}": (getattr(pa, f"{sign}int{bits}")(), 100) for bits in (8, 16, 32, 64) for sign in ("", "u")},
    "most": (pa.uint64(), 2**63 + 1),
    "least": (pa.int8(), -8),
    "float16": (pa.float16(), 0.5),
    "float32": (pa.float32(), 0.25),
    "float64": (pa.float64(), 0.1),
    "decimal32": (pa.decimal32(7, 2), Decimal("-1.25")),
    "decimal64": (pa.decimal64(12, 2), Decimal("1.25")),
    "decimal128": (pa.decimal128(38, 3), Decimal("12.345")),
    "decimal256": (pa.decimal256(60, 3), Decimal("12.345")),
    "date32": (pa.date32(), date(2026, 11, 27)),
    "time32": (pa.time32("ms"), clock(12, 34, 56)),
    **{f"time64_{unit}": (pa.time64(unit), clock(12, 34, 56, 789)) for unit in ("us", "ns")},
    **{f"moment_{unit}": (pa.timestamp(unit), datetime(2026, 11, 27)) for unit in ("ms", "us", "ns")},
    **{f"zone_{unit}": (pa.timestamp(unit, "Europe/Berlin"), datetime(2026, 11, 27, tzinfo=timezone.utc)) for unit in ("ms", "us", "ns")},
    **{f"duration_{unit}": (pa.duration(unit), timedelta(seconds=5)) for unit in ("s", "ms", "us", "ns")},
    "text": (pa.string(), "süß"),
    "large_text": (pa.large_string(), "large"),
    "view": (pa.string_view(), "a text that is longer than twelve bytes"),
    "bytes": (pa.binary(), b"\x00\xff"),
    "large_bytes": (pa.large_binary(), b"\x00\xff"),
    "bytes_view": (pa.binary_view(), b"bytes that are more than twelve"),
    "fixed": (pa.binary(3), b"abc"),
    "list": (pa.list_(pa.int32()), [1, None, 3]),
    "large_list": (pa.large_list(pa.string()), ["a", None]),
    "list_view": (pa.list_view(pa.int32()), [1, 2]),
    "large_list_view": (pa.large_list_view(pa.int32()), [1, 2]),
    "sized": (pa.list_(pa.float32(), 2), [1.0, 2.0]),
    "struct": (pa.struct([("a", pa.int8()), ("b", pa.dictionary(pa.int8(), pa.string()))]), {"a": None, "b": "x"}),
    "nested": (pa.list_(pa.struct([("a", pa.list_(pa.string()))])), [{"a": ["x", None]}, None]),
    "names": (pa.dictionary(pa.int8(), pa.string()), "red"),
    "more": (pa.dictionary(pa.uint32(), pa.string()), "red"),
    "ordered": (pa.dictionary(pa.int16(), pa.string(), ordered=True), "red"),
    "uuid": (pa.uuid(), UUID(int=7)),
    "json": (pa.json_(), "{}"),
    "tensor": (pa.fixed_shape_tensor(pa.int32(), [2]), [1, 2]),
}

#: Those that Parquet lacks, or that pyarrow reads from it as others.
BESIDE = {
    "date64": (pa.date64(), date(2026, 11, 27)),
    "seconds": (pa.timestamp("s"), datetime(2026, 11, 27)),
    "zone": (pa.timestamp("s", "UTC"), datetime(2026, 11, 27, tzinfo=timezone.utc)),
    "time32": (pa.time32("s"), clock(12, 34, 56)),
    "hundreds": (pa.decimal128(10, -2), Decimal("1200")),
    "interval": (pa.month_day_nano_interval(), pa.MonthDayNano([1, 2, 3])),
    "empty": (pa.struct([]), {}),
    "long_names": (pa.dictionary(pa.int32(), pa.large_string()), "red"),
    "numbers": (pa.dictionary(pa.int32(), pa.int64()), 5),
    "map": (pa.map_(pa.string(), pa.int32()), [("k", 1)]),
}



def column(kind, values):
    """An array, also of an extension."""
    if isinstance(kind, pa.BaseExtensionType):
        values = [value.bytes if isinstance(value, UUID) else value for value in values]
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    return pa.array(values, kind)


def columns(types):
    """A table with a column of each type, with a null in its middle."""
    made = {name: column(kind, [value, None, value]) for name, (kind, value) in types.items()}
    return pa.table({"q": ["a", "b", "c"], **made})


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
        table, prompt = columns(TYPES), "{{ q }} {{ int8 or 0 }} {{ view or '' }}"
        with tempfile.TemporaryDirectory() as folder:
            known = by_command(folder, table, {**SMALL, "prompt": prompt})
        answers = self.engine.run(table, prompt=prompt)
        # A file's dictionaries are in the order of its rows, so that none is an ordered one.
        at, kind = answers.schema.get_field_index("ordered"), known["ordered"].type
        self.assertFalse(kind.ordered)
        chunks = [pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary) for chunk in answers["ordered"].chunks]
        field = answers.schema.field(at).with_type(kind)
        self.assertSame(answers.set_column(at, field, pa.chunked_array(chunks, kind)), known)
        for name in table.column_names:
            kept, given = answers[name], table[name]
            self.assertEqual(kept.type, given.type, name)
            self.assertEqual(kept.to_pylist(), given.to_pylist(), name)

    def test_types_that_files_lack_come_back(self):
        union = pa.UnionArray.from_dense(
            pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["x"])]
        )
        runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None]))
        table = columns(BESIDE).append_column("union", union).append_column("runs", runs)
        answers = self.engine.run(table, prompt="{{ q }}").select(table.column_names)
        self.assertEqual(answers.schema.types, table.schema.types)
        self.assertEqual(answers.to_pylist(), table.to_pylist())

    def test_types_of_polars_come_back(self):
        text = {"cat": pl.Categorical, "enum": pl.Enum(["a", "b"])}
        nanoseconds = [1, None, 3]
        frame = pl.DataFrame({
            "q": ["a", "b", "c"],
            "null": [None] * 3,
            **{name: pl.Series([1, None, 3], dtype=kind) for name, kind in [
                ("i8", pl.Int8), ("u64", pl.UInt64), ("f32", pl.Float32), ("decimal", pl.Decimal(20, 3))]},
            **{f"{kind}_{unit}": pl.Series(nanoseconds, dtype=pl.Int64).cast(kind(unit)) for kind in (pl.Datetime, pl.Duration)
               for unit in ("ms", "us", "ns")},
            "zone": pl.Series(nanoseconds, dtype=pl.Int64).cast(pl.Datetime("us", "Europe/Berlin")),
            "time": [clock(1, 2, 3), None, clock(4)],
            "date": [date(2026, 11, 27), None, date(1, 1, 1)],
            "bool": [True, None, False],
            "bytes": [b"\xff", None, b""],
            "list": [[1, None], None, []],
            "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int32, 2)),
            "struct": [{"a": 1, "b": "x"}, None, {"a": 2, "b": None}],
            "cats": pl.Series([["a"], None, ["b"]], dtype=pl.List(pl.Categorical)),
            **{name: pl.Series(["a", None, "b"], dtype=kind) for name, kind in text.items()},
        })
        for rows in (frame, frame.rechunk(), pl.concat([frame[:1], frame[1:]], rechunk=False)):
            answers = pl.from_arrow(self.engine.run(rows, prompt="{{ q }}")).select(frame.columns)
            self.assertTrue(all(answers[name].dtype in (pl.Categorical, pl.Enum) for name in text), answers.schema)
            plain = {name: pl.String for name in text}
            self.assertTrue(answers.cast(plain).equals(frame.cast(plain)), answers)
            self.assertEqual(answers.drop(*text).schema, frame.drop(*text).schema)
        with self.assertRaisesRegex(gristmill.InputError, "cannot be read.*cast or drop"):
            self.engine.run(frame.with_columns(wide=pl.lit(1, pl.Int128)), prompt="{{ q }}")

    def test_types_of_duckdb_come_back(self):
        kinds = {
            "BOOLEAN": "true", "TINYINT": "1", "UBIGINT": "18446744073709551615", "FLOAT": "0.5", "DOUBLE": "0.1",
            "DECIMAL(38,3)": "1.25", "VARCHAR": "'süß'", "BLOB": "'a'", "DATE": "'2026-11-27'", "TIME": "'01:02:03'",
            "TIMESTAMP": "'2026-11-27'", "TIMESTAMP_S": "'2026-11-27'", "TIMESTAMP_NS": "'2026-11-27'",
            "TIMESTAMPTZ": "'2026-11-27'", "INTERVAL": "'1 day'", "INTEGER[]": "[1, NULL]", "INTEGER[2]": "[1, 2]",
            "STRUCT(a INTEGER, b VARCHAR)": "{'a': 1, 'b': NULL}", "MAP(VARCHAR, INTEGER)": "MAP {'k': 1}",
            "UNION(a INTEGER, b VARCHAR)": "union_value(a := 1)", '"NULL"': "NULL",
        }
        connection = duckdb.connect()
        named = [f'c{at}' for at in range(len(kinds))]
        connection.execute("CREATE TABLE t (q VARCHAR, " + ", ".join(f"{n} {kind}" for n, kind in zip(named, kinds)) + ")")
        connection.execute(f"INSERT INTO t VALUES ('a', {', '.join(kinds.values())}), ('b'{', NULL' * len(kinds)})")
        given = connection.sql("FROM t")
        answers = self.engine.run(given, prompt="{{ q }}")
        back = connection.sql(f"SELECT q, {', '.join(named)} FROM answers")
        self.assertEqual(back.types, given.types)
        self.assertEqual(back.fetchall(), given.fetchall())

    def test_types_of_pandas_come_back(self):
        frame = pd.DataFrame({
            "q": ["a", "b", "c"],
            "int": [1, 2, 3],
            "Int": pd.Series([1, None, 3], dtype="Int64"),
            "float": [0.1, None, float("inf")],
            "boolean": pd.Series([True, None, False], dtype="boolean"),
            "string": pd.Series(["a", None, "b"], dtype="string"),
            "moment": pd.to_datetime(["2026-11-27", None, "2026-11-28"]),
            "zone": pd.to_datetime(["2026-11-27", None, "2026-11-28"], utc=True),
            "seconds": pd.to_datetime(["2026-11-27", None, "2026-11-28"]).astype("datetime64[s]"),
            "delta": pd.to_timedelta([1, None, 2], "s"),
            "period": pd.period_range("2026", "2028", freq="Y"),
            "interval": pd.interval_range(0, 3),
            "bytes": [b"a", None, b"\xff"],
            "decimal": [Decimal("1.2"), None, Decimal("2.3")],
            "date": [date(2026, 1, 1), None, date(2026, 1, 2)],
        }, index=["x", "y", "z"])
        answers = self.engine.run(frame, prompt="{{ q }}").to_pandas()
        pd.testing.assert_frame_equal(answers[frame.columns], frame)
        frame = frame.assign(kind=pd.Categorical(["u", None, "v"]))
        names = self.engine.run(frame, prompt="{{ q }}").to_pandas()
        pd.testing.assert_series_equal(names["kind"], frame["kind"])

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

    def test_texts_that_are_not_utf_8_are_errors_of_their_rows(self):
        wrong, text = b"\xff\xfe and \xf0", ["good", "grün", "short", "a text that is longer than twelve bytes"]

        def texts(kind):
            # As a reader makes them that checks none.
            return pa.array([wrong, *map(str.encode, text), None], pa.binary()).cast(kind, safe=False)

        plain = pa.Array.from_buffers(pa.string(), 6, texts(pa.binary()).buffers())
        given = {
            "plain": plain,
            "large": plain.cast(pa.large_binary()).view(pa.large_string()),
            "names": pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, 4, None]), plain),
            "list": pa.ListArray.from_arrays(pa.array(range(7), pa.int32()), plain),
            "struct": pa.StructArray.from_arrays([plain], ["a"], mask=pa.array([False] * 5 + [True])),
        }
        prompts = pa.array(list("abcdef"))
        for name, values in given.items():
            with self.subTest(name):
                table = pa.table({"q": prompts, "c": values})
                with self.assertRaises(UnicodeDecodeError):
                    table["c"].to_pylist()
                answers = self.engine.run(table, prompt="{{ q }}").to_pylist()
                self.assertRegex(answers[0]["error"], "column c, row 0: the text is not UTF-8")
                # What is kept alone does not keep the row from its answer.
                self.assertIsNotNone(answers[0]["generated_text"])
                self.assertIsNone(answers[0]["c"])
                self.assertEqual([row["error"] for row in answers[1:]], [None] * 5)
                self.assertEqual([row["c"] for row in answers[1:]], table["c"].slice(1).to_pylist())
        rows = pa.table({"q": pa.chunked_array([prompts, plain])})
        errors = self.engine.run(rows, prompt="{{ q }}")["error"].to_pylist()
        self.assertEqual([bool(error) for error in errors], [False] * 6 + [True] + [False] * 4 + [True])
        self.assertRegex(errors[6], "column q, row 6: the text is not UTF-8")

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
            (gristmill.UsageError, {"prompt": "{{ q }}", "keep": []}, "`keep` is an empty list"),
            (TypeError, {"prompt": b"{{ q }}"}, "`prompt`: takes text"),
        ]:
            with self.subTest(text), self.assertRaisesRegex(error, text) as raised:
                self.engine.run(table, **given)
            self.assertNotIn("--help", str(raised.exception))
        twice = pa.table([["a"], ["b"]], names=["q", "q"])
        for rows, text in [(twice, "more than one column is named `q`"), (pa.table({}), "no column `q`.*it has none")]:
            with self.assertRaisesRegex(gristmill.UsageError, text):
                self.engine.run(rows, prompt="{{ q }}")
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

    def test_a_fork_is_told_and_ends(self):
        def child():
            reader, self.engine = self.reader, None
            for work in (lambda: reader.read_all(), lambda: gristmill.Engine(**SMALL), lambda: engine.run(messages(1), prompt="{{ q }}")):
                with self.assertRaisesRegex(gristmill.UsageError, "is a fork"):
                    work()

        engine = gristmill.Engine(**SMALL)
        self.reader = engine.stream(messages(3000), prompt="{{ q }}")
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        self.assertEqual(process.exitcode, 0)
        self.assertEqual(self.reader.read_all().num_rows, 3000)
        # Where only the children have engines, a fork is as good as another process.
        code = (
            "import gristmill, multiprocessing, pyarrow as pa\n"
            f"def rows(n): return gristmill.Engine(**{SMALL!r}).run(pa.table({{'q': ['a'] * n}}), prompt='{{{{ q }}}}').num_rows\n"
            "with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(rows, [5, 6], chunksize=1))"
        )
        self.assertEqual(python(code).communicate(timeout=60), ("[5, 6]\n", ""))

    def test_interpreters_end_while_an_engine_works(self):
        begin = f"import gristmill, threading, time, pyarrow as pa\nengine = gristmill.Engine(**{SMALL!r})\n"
        given = "engine.{}(pa.table({{'q': ['a', 'b'] * 50_000}}), prompt='{{{{ q }}}}', max_tokens=200)"
        stream, run = (given.format(name) for name in ("stream", "run"))
        endless = "def batches():\n    while True: yield pa.record_batch({'q': ['a', 'b']})\n"
        reader = "engine.stream(pa.RecordBatchReader.from_batches(pa.schema([('q', pa.string())]), batches()), prompt='{{ q }}')"
        # A thread that waits for rows is told; what else it would print may be cut off.
        told = f"def work():\n    try: {run}\n    except RuntimeError as error: assert str(error) == 'the interpreter ends', error\n"
        for code in (f"reader = {stream}", f"{told}threading.Thread(target=work, daemon=True).start(); time.sleep(1)",
                     f"{endless}reader = {reader}\nreader.read_next_batch()"):
            with self.subTest(code):
                process = python(begin + code)
                out, err = process.communicate(timeout=60)
                self.assertEqual((process.returncode, out, err), (0, "", ""))

    def test_numbers_of_numpy_are_numbers(self):
        given = {"prompt": "{{ q }}", "max_tokens": numpy.int64(2), "temperature": numpy.float32(0.5), "ignore_eos": numpy.bool_(True)}
        self.assertEqual(self.engine.run(messages(2), **given)["num_generated_tokens"].to_pylist(), [2, 2])

    def test_a_closed_engine_says_so(self):
        with gristmill.Engine(**SMALL) as engine:
            self.assertEqual(engine.model, str(GOLDEN))
            self.assertIn("thread", engine.device)
        with self.assertRaisesRegex(gristmill.UsageError, "closed"):
            engine.run(messages(1), prompt="{{ q }}")


if __name__ == "__main__":
    unittest.main()
