"""What this process asks of the C library: seen in page faults and in the number of arenas, in processes of their own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(__import__("ctypes").CDLL(None), "malloc_info"), reason="no glibc here"
)

TENSORS = """
import resource, torch
from matscout.engine import process_setup
if {asked}:
    process_setup.keep_freed_memory()
torch.empty(10_000_000).fill_(1.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.empty(10_000_000).fill_(1.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

THREADS = """
import ctypes, sys, threading
from matscout.engine import process_setup
if {asked}:
    process_setup.share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
together = threading.Barrier(8)
def allocate():
    together.wait()
    libc.malloc(10_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
libc.fclose.argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
stream = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, stream)
libc.fclose(stream)
print(open(sys.argv[1]).read().count("<heap nr="))
"""


GARBAGE = """
import atexit, gc
from matscout.engine import process_setup
atexit.register(lambda: print(gc.get_freeze_count() > 10_000))  # runs last: frozen objects are not looked at again
if {asked}:
    process_setup.collect_garbage_rarely()
before = sum(generation["collections"] for generation in gc.get_stats())
kept = [[] for _ in range(50_000)]
print(sum(generation["collections"] for generation in gc.get_stats()) - before)
"""


def number_printed(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_tensors_are_not_given_back_to_the_kernel():
    kept, given_back = (number_printed(TENSORS.format(asked=asked)) for asked in (True, False))
    assert given_back > 1000  # 40 MB, forty times over: far fewer than 400,000 where pages are huge
    assert kept < given_back / 4


def test_threads_share_two_arenas(tmp_path):
    shared, apart = (
        number_printed(THREADS.format(asked=asked), str(tmp_path / "arenas.xml")) for asked in (True, False)
    )
    assert apart > 2
    assert shared <= 2


@pytest.mark.parametrize("asked", [True, False])
def test_a_command_searches_for_garbage_rarely_and_not_when_it_ends(asked):
    code = [sys.executable, "-c", GARBAGE.format(asked=asked)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    collections, is_frozen = done.stdout.split()
    assert (int(collections) < 3, is_frozen == "True") == (asked, asked)
