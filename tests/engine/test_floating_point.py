"""Subnormal numbers are zero where a process asks for it, also in the threads that it starts."""

import subprocess
import sys

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
import numba, numpy as np, torch
from matscout.engine.process_setup import flush_subnormals

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


BLOCK = """
import numpy as np
from matscout.engine.process_setup import subnormals_flushed

small = np.full(4, 1e-300)
with subnormals_flushed():
    within = float((small * 1e-10).max())
    with subnormals_flushed():
        pass
    still = float((small * 1e-10).max())
print(within == 0, still == 0, float((small * 1e-10).max()) > 0)
"""


def test_after_a_block_numbers_are_what_they_were():
    done = subprocess.run([sys.executable, "-c", BLOCK], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]
