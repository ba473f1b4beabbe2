"""The project's own files, read as text and as syntax trees, for the tests that hold the house rules."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What a clone may hold besides the project: environments, hidden folders and what programs wrote.
FOREIGN = {"output", "logs", "demo_work", "__pycache__", ".git"}  # in a second working tree, .git is a file
OWN = {".ci"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def python_files() -> tuple[Path, ...]:
    """Every Python file of the project."""
    return tuple(path for path in project_files() if path.suffix == ".py")


@cache
def project_files() -> tuple[Path, ...]:
    """Every file of the project, whether under version control already or not."""
    return tuple(sorted(_walk(ROOT)))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        hidden = path.name.startswith(".") and path.name not in OWN
        if path.name in FOREIGN:
            continue
        if path.is_file():
            yield path
        elif not hidden and not (path / "pyvenv.cfg").exists():
            yield from _walk(path)


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def named(path: Path) -> str:
    """A file's path in the project, as the complaints name it."""
    return path.relative_to(ROOT).as_posix()


def program_files() -> list[Path]:
    """The Python files that are not tests."""
    return [path for path in python_files() if not named(path).startswith("tests/")]


def library_files() -> list[Path]:
    """The library's Python files."""
    return [path for path in python_files() if named(path).startswith("library/")]


def recipes() -> list[Path]:
    """The programs at the top level."""
    return [path for path in python_files() if path.parent == ROOT]


def functions(paths: list[Path]) -> list[tuple[Path, Function]]:
    """Every function and method of these files."""
    found = [(path, node) for path in paths for node in ast.walk(tree_of(path))]
    return [(path, node) for path, node in found if isinstance(node, Function)]


def imports_of(path: Path) -> set[str]:
    """The dotted names of all modules that a file imports, wherever in it; `from a import b` is a.b."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(ROOT).parent.parts)
            base = package[: len(package) + 1 - node.level] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return names
