"""Who may import whom: each floor only those below it, and nobody what is not in requirements.txt."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import library
from library.lookup import OPTIMIZERS
from tests.house import ROOT, imports_of, library_files, named, python_files, recipes

LIGHT = ("cli", "errors", "files", "log", "lookup", "samplers", "seeds", "settings", "models.prompts", "models.grammar")

# Imported name -> its name in requirements.txt, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "skimage": "scikit-image",
    "open_clip": "open-clip-torch",
}
# Requirements that no file imports, each with the reason.
INDIRECT = {
    "torchvision": "open-clip-torch and transformers load it, and it must fit the torch",
    "tensorboard": "torch.utils.tensorboard writes by it",
    "scipy": "diffusers' LMS sampler integrates by it",
    "ruff": "run as a program",
    "pytest-xdist": "tests/run.sh runs two processes by it",
}


def floors() -> dict[str, int]:
    """Package or module of the library -> its floor, from the map in the library's docstring."""
    found: dict[str, int] = {}
    floor = None
    for line in (library.__doc__ or "").splitlines():
        if match := re.match(r"floor (\d)\s+(.*)", line):
            floor, line = int(match[1]), match[2]
        if floor is not None and line.strip():
            words = line.split() if floor == 0 else [word for word in line.split()[:1] if word.endswith("/")]
            found |= {word.removesuffix("/"): floor for word in words}
    return found


def room_of(path: Path) -> str:
    """The package or module of the library that a file belongs to: library/data/images.py is in data."""
    parts = path.relative_to(ROOT / "library").parts
    return parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The other rooms of the library that a file imports from."""
    dotted = [name.split(".") for name in imports_of(path)]
    return {parts[1] for parts in dotted if parts[0] == "library" and len(parts) > 1} - {room_of(path)}


def test_the_map_names_every_room_of_the_library() -> None:
    there = {room_of(path) for path in library_files()} - {"__init__"}
    assert there == set(floors())
    assert len(there) >= 10


def test_imports_go_down_only_and_rooms_of_a_floor_are_strangers() -> None:
    floor, seen, wrong = floors(), 0, []
    for path in library_files():
        for room in imported_rooms(path):
            seen += 1
            here, there = floor[room_of(path)], floor[room]
            if there > here or there == here > 0:
                wrong.append(f"{named(path)} (floor {here}) imports {room} (floor {there})")
    assert not wrong, "\n".join(wrong)
    assert seen >= 20


def test_the_ground_floor_has_no_circle() -> None:
    floor = floors()
    below: dict[str, set[str]] = {room: set() for room in floor if floor[room] == 0}
    for path in library_files():
        if room_of(path) in below:
            below[room_of(path)] |= imported_rooms(path)
    seen = len(below)
    while leaves := [room for room, rooms in below.items() if not rooms & below.keys()]:
        for room in leaves:
            del below[room]
    assert below == {}
    assert seen >= 6


def test_the_library_imports_no_program() -> None:
    programs = {path.stem for path in recipes()} | {"tools", "preprocess", "demo", "tests"}
    outside = [path for path in python_files() if named(path).split("/")[0] in ("library", "demo")]
    wrong = [
        f"{named(path)} imports {name}"
        for path in outside
        for name in imports_of(path)
        if name.split(".")[0] in programs - {named(path).split("/")[0]}
    ]
    assert not wrong, "\n".join(wrong)
    assert len(outside) >= 20


def test_settings_stop_at_the_door() -> None:
    floor = floors()
    below = [path for path in library_files() if floor.get(room_of(path)) in (1, 2)]
    assert [named(path) for path in below if "settings" in imported_rooms(path)] == []
    assert len(below) >= 8


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    heavy = "{'torch', 'numpy', 'diffusers', 'transformers', 'accelerate', 'peft'}"
    code = f"import sys, library.{module}; print(sorted({heavy} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_a_refusal_comes_without_torch() -> None:
    code = "import sys, train_network\ntry: train_network.main(['--no_such_setting', '1'])\n"
    code += "except Exception as error: print(type(error).__name__, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "InputError False\n", result.stderr


def test_requirements_are_what_is_imported() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = {match[0] for line in lines if (match := re.match(r"[a-z0-9-]+", line))}
    own = {path.name.removesuffix(".py") for path in ROOT.iterdir()}
    roots = {name.split(".")[0] for path in python_files() for name in imports_of(path)}
    roots |= {re.split(r"[.:]", target)[0] for target in OPTIMIZERS.values()}  # imported when they are named
    foreign = roots - own - set(sys.stdlib_module_names)
    imported = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in foreign}
    assert imported - listed == set()
    assert listed - imported - set(INDIRECT) == set()
    assert len(imported) >= 10
