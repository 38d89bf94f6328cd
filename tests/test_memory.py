"""Freed memory is kept, and values are what they were."""

import resource
import sys

import pytest
import torch

from matscout.memory import keep_freed_memory

TENSOR = 16 << 20  # bytes: above glibc's default thresholds, below ours


def faults_of(n: int) -> int:
    """Page faults of writing a fresh large tensor `n` times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        torch.ones(TENSOR // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_a_second_tensor_of_the_same_size_costs_no_page_faults():
    keep_freed_memory()
    faults_of(2)
    assert faults_of(8) < 0.1 * 8 * TENSOR / resource.getpagesize()
