"""The long reader's memory does not grow with the text, nor with a line of it. Each in a process of its own."""

import subprocess
import sys

import pytest


@pytest.mark.slow(seconds=9)
def test_a_line_of_ten_megabytes_takes_no_more_memory_than_a_short_one(tmp_path):
    """In a process of its own, with a model that does nothing: it is the reader's own memory that is looked at."""
    script = f"""
import pathlib, resource, sys
from hybridlab.ssm.long_reader import Chunk, LongReader
from hybridlab.ssm.needle import needle_model
LongReader._run = lambda self, start, tokens, state: Chunk(start, tokens, state, [], None)
path = pathlib.Path({str(tmp_path)!r}) / "line"
def peak(size):
    path.write_bytes(b"x" * size)
    LongReader(needle_model("relu", seed=0, d_state=4)).read(path)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
short = peak(200_000)
print(peak(10_000_000) / short)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 1.05


@pytest.mark.slow(seconds=12)
def test_peak_memory_does_not_grow_with_the_text():
    """Ten times the text, in a process of its own."""
    script = """
import resource
import torch
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.needle import needle_model
torch.set_num_threads(1)
def peak(pieces):
    LongReader(needle_model("relu", seed=0)).read("the king said no more of it. " * 100 for _ in range(pieces))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
short = peak(4)
print(peak(40) / short)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 1.05


@pytest.mark.slow(seconds=5)
@pytest.mark.skipif(sys.platform != "linux", reason="the count is glibc's own")
def test_nothing_stays_in_use_behind_a_chunk():
    """What the C library has handed out and not got back, in KiB; its free scraps, which the peak includes, may vary."""
    script = """
import ctypes
import torch
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.needle import needle_model
torch.set_num_threads(1)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
count = ctypes.CDLL(None).mallinfo2
count.restype = Info
reader = LongReader(needle_model("relu", seed=0))
def in_use(pieces):
    reader.read("the king said no more of it. " * 100 for _ in range(pieces))
    now = count()
    return (now.uordblks + now.hblkhd) / 1024
begin = in_use(4)
print(in_use(12) - begin)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert abs(float(ended.stdout)) < 128  # a state is 36 KiB: kept for each of the 34 chunks it would be 1,200
