"""Whether every module of an adapter file finds its place in a model."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from library.adapters.anatomy import Module
from library.adapters.hypernetwork import READERS
from library.adapters.keys import PARTS, dotted_of, part_of, stem_of
from library.errors import InputError
from library.models.family import Family
from library.models.stems import WEIGHT, parts_of, usual_stems


@dataclass
class Placement:
    """What became of the modules of a file in a model."""

    found: int = 0
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # sentences about shapes
    missing: list[str] = field(default_factory=list)  # layers of the parts in the file that are trained as a rule

    @property
    def fits(self) -> bool:
        """Whether every module has found its place."""
        return not self.unknown and not self.wrong


def place(family: Family, modules: Iterable[Module]) -> Placement:
    """Looks up each module in the model's own tensors."""
    xl = len(family.text_parts) > 1
    shapes, usual = {}, {}
    for part in parts_of(family):
        tensors = family.part_tensors(part)
        for name, tensor in tensors.items():
            if name.endswith(WEIGHT):
                shapes[stem_of(f"{part}.{name.removesuffix(WEIGHT)}", xl)] = tuple(tensor.shape)
        usual[part] = usual_stems(family, part, tensors, convolutions=False)
    contexts = {shape[1] for stem, shape in shapes.items() if stem.endswith(READERS)}
    result, seen = Placement(), set()
    for module in modules:
        stem = model_stem(module.stem, xl)
        seen.add(stem)
        needed = shapes.get(stem) if stem else None
        if module.kind == "hypernetwork" and module.shape and module.shape[1] in contexts:
            result.found += 1
        elif needed is None:
            result.unknown.append(module.stem)
        elif not _fits(module.shape, needed):
            result.wrong.append(f"{module.stem} is made for a weight of shape {module.shape}, the model's has {needed}")
        else:
            result.found += 1
    parts = {part_of(stem) for stem in seen if stem}
    result.missing = [stem for part in parts if part in usual for stem in usual[part] if stem not in seen]
    return result


def model_stem(stem: str, xl: bool) -> str | None:
    """kohya's own stem of a module in any layout; None for a name that has no meaning here."""
    try:
        if "." in stem:
            return stem_of(stem, xl) if stem.partition(".")[0] in PARTS.values() else None
        return stem_of(dotted_of(stem), xl)
    except (InputError, KeyError):
        return None


def _fits(shape: tuple[int, ...] | None, needed: tuple[int, ...]) -> bool:
    """Whether a change of this shape can be added; ones at the end do not count, and LoHa flattens kernels."""
    if shape is None:
        return True
    one, other = (tuple(size for size in each if size != 1) for each in (shape, needed))
    flat = (needed[0], *([_product(needed[1:])] if len(needed) > 1 else []))
    return one == other or shape == flat


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result
