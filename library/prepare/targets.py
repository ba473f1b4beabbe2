"""Where the result of each picture goes: a folder of its own, the same folders inside, no two of one name."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from os.path import realpath
from pathlib import Path

from library.data.folders import pictures_in
from library.errors import InputError
from library.log import warn
from library.prepare.walk import find_pictures

NAMED = 3  # files that a warning names


def find_sources(folder: Path, output: Path, recursive: bool) -> list[Path]:
    """The pictures of a folder, of every kind; those in `output` are left out where that lies inside.

    Raises InputError where the folder is missing or holds none, or where `output` may not be written to because
    it is the folder, holds it, or is a file.
    """
    found = find_pictures(folder, recursive, other_kinds=True)
    here, there = folder.resolve(), output.resolve()
    if here == there:
        raise InputError(f"the pictures in {folder} are not altered; give another folder to write to.")
    if here.is_relative_to(there):
        raise InputError(f"{folder} lies inside {output}; give a folder to write to that holds no originals.")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; give a folder to write to.")
    sources = [path for path in found if not Path(realpath(path)).is_relative_to(there)]
    if not sources:
        raise InputError(f"no pictures found in {folder} besides those in {output}.")
    return sources


def place_targets(sources: Sequence[Path], folder: Path, output: Path, ending: str) -> dict[Path, Path]:
    """The file to write for each picture: the same name and folder below `output`, ending in `ending` (".png").

    Pictures whose files would have one name (`a.jpg` and `a.png`) get their kind into it (`a_jpg.png`, `a_png.png`),
    which is said. Names that differ in case only count as one, as they do on some machines.
    """
    plain = {source: output / source.relative_to(folder).with_suffix(ending) for source in sources}
    counts = Counter(_key(target) for target in plain.values())
    targets = {source: target for source, target in plain.items() if counts[_key(target)] == 1}
    taken = {_key(target) for target in targets.values()}
    for source in [source for source in sources if source not in targets]:
        target = _free(plain[source], source.suffix[1:].lower(), taken)
        taken.add(_key(target))
        targets[source] = target
        warn(f"{source} is written as {target.name}, because another picture has the same name but for its kind.")
    return {source: targets[source] for source in sources}


def warn_of_others(targets: Iterable[Path], made: Collection[Path]) -> None:
    """Says which pictures lie in the folders of `targets` without having been `made`."""
    for folder in sorted({target.parent for target in targets}):
        others = [path for path in pictures_in(folder) if path not in made] if folder.is_dir() else []
        names = ", ".join(path.name for path in others[:NAMED]) + (", ..." if len(others) > NAMED else "")
        if others:
            warn(f"{folder} holds pictures not of this run ({names}); training would use them too.")


def _key(path: Path) -> str:
    return str(path).casefold()


def _free(path: Path, kind: str, taken: set[str]) -> Path:
    """The first of a_kind.png, a_kind_2.png, a_kind_3.png ... that is not taken."""
    target, number = path.with_stem(f"{path.stem}_{kind}"), 2
    while _key(target) in taken:
        target, number = path.with_stem(f"{path.stem}_{kind}_{number}"), number + 1
    return target
