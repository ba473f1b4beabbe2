"""How much memory a process could get: in made-up control groups, and under real limits of a process."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from library import memory_limits
from library.memory_limits import memory_left
from tests.house import ROOT

GB = 10**9
MOUNTS = {
    "cgroup2": "30 23 0:26 {seen} {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
    "cgroup": "35 31 0:32 {seen} {mount} rw,relatime - cgroup cgroup rw,memory",
}
NAMES = {
    "cgroup2": ("memory.max", "memory.current", "inactive_file"),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@pytest.fixture(autouse=True)
def a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 GB are free on it, and this process holds 1 GB."""
    process, info = psutil.Process(), psutil.Process().memory_info()
    monkeypatch.setattr(process, "memory_info", lambda: info._replace(rss=1 * GB))
    monkeypatch.setattr(memory_limits.psutil, "Process", lambda: process)
    free = psutil.virtual_memory()._replace(available=60 * GB)
    monkeypatch.setattr(memory_limits.psutil, "virtual_memory", lambda: free)


class Groups:
    """The files that a system shows of control groups."""

    def __init__(self, root: Path, kind: str, group: str = "/box", seen: str = "/") -> None:
        """This process is in `group`, of which the machine shows what is below `seen`."""
        self.kind, self.root = kind, root
        self.top = root / "sys/fs/cgroup"
        own = {"cgroup2": f"0::{group}", "cgroup": f"12:cpu:/other\n4:hugetlb,memory:{group}\n1:name=systemd:/"}
        proc = root / "proc/self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(own[kind] + "\n")
        others = [
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw",
            "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset",
        ]
        lines = [*others, MOUNTS[kind].format(seen=seen, mount="/sys/fs/cgroup"), ""]
        (proc / "mountinfo").write_text("\n".join(lines))

    def add(self, folder: str, limit: object, used: int, copies: int = 0) -> None:
        """A group: its limit, what is used, and what of that are copies of files."""
        place = self.top / folder
        place.mkdir(parents=True, exist_ok=True)
        limit_file, used_file, cached = NAMES[self.kind]
        (place / limit_file).write_text(f"{limit}\n")
        (place / used_file).write_text(f"{used}\n")
        (place / "memory.stat").write_text(f"anon {used}\nfile 7\n{cached} {copies}\n")


@pytest.fixture(params=NAMES)
def kind(request: pytest.FixtureRequest) -> str:
    """Both kinds of control groups."""
    return str(request.param)


def test_a_container_of_four(tmp_path: Path, kind: str) -> None:
    """4 GB: what this process holds is ours, what others use is not, and copies of files give way."""
    groups = Groups(tmp_path, kind)
    groups.add("box", 4 * GB, 1 * GB)
    assert memory_left(root=tmp_path) + 1 * GB == 4 * GB
    groups.add("box", 4 * GB, 2 * GB)
    assert memory_left(root=tmp_path) == 2 * GB
    groups.add("box", 4 * GB, 4 * GB, copies=3 * GB)
    assert memory_left(root=tmp_path) == 3 * GB
    groups.add("box", 4 * GB, 4 * GB, copies=4 * GB)
    assert memory_left(root=tmp_path) == 3 * GB, "what this process holds is used, whatever it is"
    assert memory_left(sharing=2, root=tmp_path) == 1.5 * GB
    groups.add("box", 4 * GB, 5 * GB)
    assert memory_left(root=tmp_path) == 0


def test_groups_above_count(tmp_path: Path, kind: str) -> None:
    groups = Groups(tmp_path, kind, "/slice/box")
    groups.add("slice/box", 8 * GB, 1 * GB)
    groups.add("slice", 16 * GB, 12 * GB)
    assert memory_left(root=tmp_path) == 4 * GB
    groups.add("", 3 * GB, 2 * GB)
    assert memory_left(root=tmp_path) == 1 * GB
    groups.add("other", 1 * GB, 1 * GB)
    assert memory_left(root=tmp_path) == 1 * GB, "this process is not in there"


def test_a_container_sees_its_own_group_as_the_top(tmp_path: Path, kind: str) -> None:
    groups = Groups(tmp_path, kind, "/docker/a1/job", seen="/docker/a1")
    groups.add("", 4 * GB, 2 * GB)
    assert memory_left(root=tmp_path) == 2 * GB
    groups.add("job", 3 * GB, 2 * GB)
    assert memory_left(root=tmp_path) == 1 * GB


def test_a_group_that_is_not_to_be_seen(tmp_path: Path, kind: str) -> None:
    """It was moved out of what is shown, or its folder is hidden."""
    groups = Groups(tmp_path, kind, "/elsewhere", seen="/docker/a1")
    groups.add("", 4 * GB, 2 * GB)
    assert memory_left(root=tmp_path) == 2 * GB


def test_no_limit(tmp_path: Path, kind: str) -> None:
    assert memory_left(root=tmp_path) == 60 * GB, "no such files, as on other systems"
    groups = Groups(tmp_path, kind)
    for limit in ("max", 9223372036854771712):
        groups.add("box", limit, 1 * GB)
        assert memory_left(root=tmp_path) == 60 * GB
    (groups.top / "box" / NAMES[kind][1]).unlink()
    groups.add("", 70 * GB, 1 * GB)
    assert memory_left(sharing=4, root=tmp_path) == 15 * GB, "more than there is"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep such limits")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_what_is_said_to_be_left_can_be_got(limit: str) -> None:
    """By a real process under a real limit, and not much more than that."""
    code = f"""
import mmap, resource
from library.memory_limits import memory_left
free = memory_left()
resource.setrlimit(resource.{limit}, (2 * 10**9, 2 * 10**9))
left, private = memory_left(), {{"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}}
assert left < 2 * 10**9 <= free, (left, free)
with mmap.mmap(-1, int(left * 0.99), **private):
    pass
try:
    mmap.mmap(-1, int(left * 1.01), **private)
except OSError:
    print("full")
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "full\n"), ended.stderr
