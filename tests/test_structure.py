"""The shape of the files: short, flat, typed, explained. Every gate counts what it saw, so none is blind."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from library import lookup
from tests.house import (
    ROOT,
    Function,
    functions,
    library_files,
    named,
    program_files,
    project_files,
    python_files,
    recipes,
    tree_of,
)

FILE_LINES, RECIPE_LINES, FUNCTION_LINES, PARAMETERS, NESTING = 350, 150, 60, 7, 4

# Library modules without a test file of their own, each with the reason.
UNTESTED: dict[str, str] = {}

Block = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def test_recipes_are_short_and_hold_no_classes_and_no_closures() -> None:
    wrong = []
    for path in recipes():
        if len(path.read_text().splitlines()) >= RECIPE_LINES:
            wrong.append(f"{path.name} has {RECIPE_LINES} lines or more")
        tree = tree_of(path)
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        wrong += [f"{path.name}: class {node.name}" for node in classes]
        inner = [node for _, outer in functions([path]) for node in ast.walk(outer) if node is not outer]
        wrong += [f"{path.name}: {node.name} in a function" for node in inner if isinstance(node, Function)]
    assert not wrong, "\n".join(wrong)
    assert "train_network.py" in [path.name for path in recipes()]


def test_no_file_is_too_long() -> None:
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    wrong = {name: length for name, length in lengths.items() if length > FILE_LINES}
    assert not wrong, wrong
    assert len(lengths) >= 40


def test_no_function_is_too_long() -> None:
    """A recipe is one function on purpose; its file is the measure of it."""
    found = functions([path for path in python_files() if path not in recipes()])
    long = [(path, node) for path, node in found if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES]
    wrong = [f"{named(path)}: {node.name}" for path, node in long]
    assert not wrong, "\n".join(wrong)
    assert len(found) >= 150


def test_no_function_takes_too_much() -> None:
    wrong = []
    for path, node in functions(program_files()):
        names = [argument.arg for argument in arguments_of(node) if argument.arg not in ("self", "cls")]
        if len(names) > PARAMETERS:
            wrong.append(f"{named(path)}: {node.name} takes {len(names)}")
    assert not wrong, "\n".join(wrong)


def test_no_function_is_nested_too_deep() -> None:
    depths = {f"{named(path)}: {node.name}": depth_of(node) for path, node in functions(list(python_files()))}
    wrong = {name: depth for name, depth in depths.items() if depth > NESTING}
    assert not wrong, wrong
    assert max(depths.values()) >= 2


def depth_of(node: ast.AST) -> int:
    """Blocks within blocks, at most; an elif stands as deep as its if, and a function within starts anew."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*Function.__args__, ast.ClassDef)):
            continue
        is_elif = isinstance(child, ast.If) and isinstance(node, ast.If) and node.orelse == [child]
        deepest = max(deepest, depth_of(child) + (isinstance(child, Block) and not is_elif))
    return deepest


def test_the_gate_on_nesting_counts_right() -> None:
    text = "def f():\n for a in b:\n  if a:\n   pass\n  elif b:\n   with c:\n    pass\n"
    assert depth_of(ast.parse(text).body[0]) == 3


def arguments_of(function: Function) -> list[ast.arg]:
    """All parameters of a function."""
    given = function.args
    several = [argument for argument in (given.vararg, given.kwarg) if argument]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *several]


def test_everything_is_typed() -> None:
    wrong = []
    for path, node in functions(program_files()):
        untyped = [each.arg for each in arguments_of(node) if each.annotation is None]
        if set(untyped) - {"self", "cls"} or node.returns is None:
            wrong.append(f"{named(path)}: {node.name}")
    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_caption() -> None:
    captions = {named(path): (ast.get_docstring(tree_of(path)) or "").split("\n") for path in python_files()}
    wrong = [name for name, lines in captions.items() if not lines[0] or lines[1:2] not in ([], [""])]
    assert not wrong, "\n".join(wrong)
    assert len(captions) >= 40


def test_every_public_name_has_a_docstring() -> None:
    seen, wrong = 0, []
    for path in program_files():
        for name, node in public_names(tree_of(path)):
            seen += 1
            if not ast.get_docstring(node):
                wrong.append(f"{named(path)}: {name}")
    assert not wrong, "\n".join(wrong)
    assert seen >= 100


def public_names(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """The public functions and classes of a module, with the public methods of those."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_names(node, f"{node.name}.")


def test_package_inits_hold_only_a_caption() -> None:
    inits = [path for path in python_files() if path.name == "__init__.py"]
    full = [named(path) for path in inits if len(tree_of(path).body) != 1]
    assert set(full) <= {"library/settings/__init__.py"}
    assert len(inits) >= 6
    assert not [path for path in inits if named(path).startswith("tests/")]


# Those that name code; others hold patterns and types.
TABLES = {
    name: table
    for name, table in vars(lookup).items()
    if name.isupper() and isinstance(table, dict) and all(isinstance(entry, str) for entry in table.values())
}


@pytest.mark.parametrize("table", TABLES)
def test_every_entry_of_a_table_is_there(table: str) -> None:
    assert {"FAMILIES", "ADAPTERS", "OPTIMIZERS", "LR_SCHEDULES", "SAMPLERS"} <= set(TABLES)
    for target in TABLES[table].values():
        assert lookup.resolve(target) is not None
    assert len(TABLES[table]) >= 1


def test_tests_mirror_the_library() -> None:
    modules = [path.relative_to(ROOT / "library") for path in library_files() if path.name != "__init__.py"]
    missing = {
        path.with_suffix("").as_posix()
        for path in modules
        if not (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()
    }
    assert missing == set(UNTESTED), "\n".join(sorted(missing ^ set(UNTESTED)))
    assert len(modules) >= 20


# Written with brackets so that this file does not hold them itself.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(?:roo[t]|wor[k]|opt/whee[l]s)/",
    "left open": r"\b(?:TOD[O]|FIXM[E]|XX[X])\b|NotImplementedErro[r]|pragma: no cove[r]",
    "a merge left behind": r"^(?:<{7}|>{7}) ",
}
TEXT = (".py", ".sh", ".md", ".toml", ".txt", ".json", ".yml", "")


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds_what_does_not_belong_there(what: str) -> None:
    pattern, seen, wrong = re.compile(FORBIDDEN[what], re.MULTILINE), 0, []
    for path in project_files():
        if path.suffix in TEXT and path.name != "merges.txt":
            seen += 1
            found = pattern.finditer(path.read_text(encoding="utf-8"))
            wrong += [f"{named(path)}: {match[0]}" for match in found]
    assert not wrong, "\n".join(wrong)
    assert seen >= 60


def test_ruff_finds_nothing() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    command = [*command[:4], "--show-files"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(shown.stdout.splitlines()) >= len(python_files())
