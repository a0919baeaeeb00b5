"""What a step frees stays with the process: later steps take no page fault for it."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from transit_cli.device.allocator import keep_freed_memory
from transit_cli.model import registry

torch.set_num_threads(1)
assert keep_freed_memory()
network = registry.build("two-branch", {"global": 2001, "local": 201})
inputs = {"global": torch.randn(8, 2001), "local": torch.randn(8, 201)}

def steps(count):
    for _ in range(count):
        network(inputs).sum().backward()
        network.zero_grad()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print((steps(10) - steps(10)) / -10)
"""


def faults():
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    return float(found.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator only")
def test_page_faults_stop_after_the_first_steps():
    """Without `keep_freed_memory` two processes of three take 1,000 and more, by where the heap happens to begin."""
    assert faults() < 100
