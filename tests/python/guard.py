"""The exit code of a command that something may end: it is 0 only if the command has said so."""

import os
import signal
import subprocess
import sys
import time
import unittest

#: Ends in some way in a guarded process, and prints what came of it.
PROGRAM = """
import os, signal, sys, time
from gristmill.guard import guarded

def run():
    print("runs", os.getpid(), flush=True)
    {ends}

print("code", guarded(run), flush=True)
"""


def start(ends):
    program = [sys.executable, "-c", PROGRAM.format(ends=ends)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_running(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(") ", 1)[1][0] not in "ZX"
    except FileNotFoundError:
        return False


class Guard(unittest.TestCase):
    def test_an_exit_code_is_what_the_command_says(self):
        ways = {
            "return 0": "code 0",
            "return 3": "code 3",
            "sys.exit(0)": "code 0",
            "sys.exit(2)": "code 2",
            "sys.exit('no')": "code 1",
            "raise ValueError('why')": "code 1",
            # Without a word.
            "os._exit(0)": "code None",
            "os._exit(2)": "code 2",
        }
        for ends, expected in ways.items():
            out, _ = start(ends).communicate(timeout=60)
            self.assertIn(expected, out.splitlines(), ends)

    def test_a_signal_that_ends_the_command_ends_both(self):
        for number in [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV]:
            ran = start(f"os.kill(os.getpid(), {int(number)})")
            ran.communicate(timeout=60)
            self.assertEqual(ran.returncode, -number)

    def test_whoever_ends_the_command_ends_what_it_runs(self):
        for number in [signal.SIGTERM, signal.SIGKILL]:
            ran = start("time.sleep(600)")
            inner = int(ran.stdout.readline().split()[1])
            os.kill(ran.pid, number)
            ran.communicate(timeout=60)
            self.assertEqual(ran.returncode, -number)
            end = time.monotonic() + 30
            while is_running(inner):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.05)


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        print("SKIPPED: processes that die with their parents are Linux's")
        sys.exit()
    unittest.main()
