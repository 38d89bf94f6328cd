"""Subnormal numbers are zero where a process asks for it, also in the threads that it starts."""

import subprocess
import sys

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
import numba, numpy as np, torch
from matscout.engine.arithmetic import flush_subnormals

small = np.full(4, 1e-30, np.float32)
product = numba.njit(lambda x, y: x * y)
ways = [lambda: torch.from_numpy(small) * 1e-10, lambda: small * np.float32(1e-10), lambda: product(small, np.float32(1e-10))]
before = [float(way().max()) for way in ways]
flush_subnormals()
with ThreadPoolExecutor(1) as pool:
    after = [float(found.max()) for way in ways for found in (way(), pool.submit(way).result())]
print(min(before) > 0, max(after) == 0)
"""


def test_torch_numpy_and_compiled_code_flush_in_every_later_thread():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
