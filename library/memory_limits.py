"""How much more memory this process could get: what is free on the machine, and what its limits leave of that."""

import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

# Files in a control group's folder: its limit, what is used, and what of that are copies of files, which give way.
FILES = {
    "cgroup2": ("memory.max", "memory.current", ("inactive_file", "active_file")),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
}


def memory_left(sharing: int = 1, root: Path = Path("/")) -> int:
    """Bytes that this process could get beyond those that it holds.

    Of what is free for all, on the machine and in its control groups (a container's limit is one), it has an equal
    part with the others that are `sharing` it; what `ulimit` leaves it has alone. /proc and /sys lie in `root`.
    """
    shared = min([psutil.virtual_memory().available, *_left_in_groups(root)]) // sharing
    return max(0, min([shared, *_left_by_ulimit()]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group above this process leaves it; nothing for those without a limit."""
    held = psutil.Process().memory_info().rss
    for kind, folder in _groups(root):
        limit_file, used_file, cached = FILES[kind]
        limit, used = _text(folder / limit_file), _text(folder / used_file)
        if limit.isdecimal() and used.isdecimal():
            lines = [line.split() for line in _text(folder / "memory.stat").splitlines()]
            copies = sum(int(words[1]) for words in lines if words[0] in cached)
            yield int(limit) - max(held, int(used) - copies)


def _groups(root: Path) -> Iterator[tuple[str, Path]]:
    """The folders of this process's control groups that count memory, each with its kind and followed by those above.

    /proc names a group as the machine knows it, and in a container maybe only that group's folder is to be seen.
    """
    own = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            own["cgroup" if controllers else "cgroup2"] = PurePosixPath(group)
    for line in _text(root / "proc/self/mountinfo").splitlines():
        place, _, what = line.partition(" - ")
        seen, mount = place.split()[3:5]
        kind, _, options = what.split()
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            top, group = root / mount.lstrip("/"), own.get(kind, PurePosixPath("/"))
            inside = group.relative_to(seen) if group.is_relative_to(seen) else PurePosixPath()
            for folder in (inside, *inside.parents):
                yield kind, top / folder


def _left_by_ulimit() -> Iterator[int]:
    """What limits of this process alone leave: of its addresses, and of its data."""
    if sys.platform != "linux":  # elsewhere such limits are not there or not kept
        return
    import resource

    used = psutil.Process().memory_info()
    for kind, size in ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, used.data)):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit - size


def _text(path: Path) -> str:
    """What is in one of the system's files; nothing where it is not there for us."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
