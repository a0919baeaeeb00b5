"""A container's limits, from trees of files as the kernel shows them."""

import pytest

from transit_cli.device.container import Container, ContainerMemory

GIB = 1 << 30


def tree(root, membership, files):
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "self").write_text(membership)
    return Container(root / "cgroup", root / "self")


@pytest.mark.parametrize(
    ("membership", "files", "memory", "cores"),
    [
        pytest.param(
            "0::/\n",
            {
                "memory.max": f"{4 * GIB}\n",
                "memory.current": f"{3 * GIB}\n",
                "memory.stat": f"anon 5\ninactive_file {GIB}\n",
                "cpu.max": "150000 100000\n",
            },
            ContainerMemory(4 * GIB, 2 * GIB),
            1.5,
            id="version-2",
        ),
        pytest.param("0::/\n", {"memory.max": "max\n", "cpu.max": "max 100000\n"}, None, None, id="no-limit"),
        pytest.param(
            "0::/system.slice/job\n",
            {
                "system.slice/memory.max": f"{GIB}\n",
                "system.slice/memory.current": "0\n",
                "system.slice/job/memory.max": f"{2 * GIB}\n",
                "system.slice/job/memory.current": "0\n",
            },
            ContainerMemory(GIB, GIB),
            None,
            id="the-outer-group-is-tighter",
        ),
        pytest.param(
            "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n",
            {
                "memory/memory.limit_in_bytes": f"{2 * GIB}\n",
                "memory/memory.usage_in_bytes": f"{GIB}\n",
                "memory/memory.stat": "total_inactive_file 0\n",
                "cpu/cpu.cfs_quota_us": "200000\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            ContainerMemory(2 * GIB, GIB),
            2.0,
            id="version-1-with-the-path-of-the-host",
        ),
        pytest.param(
            "4:memory:/\n1:cpu:/\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": "1\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            None,
            id="version-1-no-limit",
        ),
        pytest.param("", {}, None, None, id="no-control-groups"),
    ],
)
def test_limits(tmp_path, membership, files, memory, cores):
    container = tree(tmp_path, membership, files)
    assert container.memory() == memory
    assert container.cores() == cores
