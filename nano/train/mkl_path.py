"""Lets MKL, which torch multiplies matrices with, take its AVX2 path on other makers' processors too.

MKL asks its own function `mkl_serv_intel_cpu_true` and goes slowly where that says no: 96 instead of 131 GFLOP/s on two
cores of an AMD EPYC. A function of that name which is loaded before torch answers in its place. To be imported before torch.
"""

import ctypes
import subprocess
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    source, library = Path(folder, "answer.c"), Path(folder, "answer.so")
    source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
