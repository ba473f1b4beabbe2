"""Which pictures have masks: found, checked, and said where some are missing or not asked for."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from library.data.decoding import Facts
from library.data.folders import Subset, has_masks
from library.data.index import PictureIndex, examine_all
from library.data.masks import find_mask, misfit
from library.data.pictures import Mask, Picture
from library.log import warn


def find_masks(
    subset: Subset, paths: Collection[Path], facts: Mapping[Path, Facts], masked_loss: bool, index: PictureIndex
) -> tuple[dict[Path, Mask], list[str]]:
    """The masks of a subset's readable pictures: files if `masked_loss`, else with `alpha_mask` their transparency.

    With a sentence for each mask that cannot be read or has another shape than its picture.
    """
    masks = {path: Mask(path, facts[path].sha256, is_alpha=True) for path in paths} if subset.alpha_mask else {}
    if not masked_loss:
        return masks, []
    folder = _mask_folder(subset)
    files = {path: file for path in paths if (file := find_mask(path, folder))}
    known, broken = examine_all(dict.fromkeys(files.values()), index)
    complaints = [f"the mask {file} cannot be read: {reason}." for file, reason in broken.items()]
    for path, file in files.items():
        if file in known:
            wrong = misfit(file, known[file][1:], facts[path][1:])
            complaints += [wrong] if wrong else []
            masks[path] = Mask(file, known[file].sha256)
    return masks, complaints


def say_what_is_masked(pictures: Sequence[Picture], masked_loss: bool) -> None:
    """Warns of pictures without a mask, and of masks that nobody asked for."""
    own = {picture.path: picture.mask for picture in pictures if not picture.subset.is_reg}
    bare = sum(mask is None for mask in own.values())
    if masked_loss and bare:
        which = "no picture has a mask" if bare == len(own) else f"{bare} of {len(own)} pictures have no mask"
        warn(f"masked_loss is on, but {which}; all of their pixels count.")
    if masked_loss:
        return
    subsets = list(dict.fromkeys(picture.subset for picture in pictures))
    folders = [each.conditioning_data_dir for each in subsets if each.conditioning_data_dir]
    folders += [each.image_dir for each in subsets if not each.alpha_mask and has_masks(each.image_dir)]
    if folders:
        names = ", ".join(dict.fromkeys(map(str, folders)))
        warn(f"the masks in {names} are not used, because masked_loss is off; set masked_loss = true to use them.")


def _mask_folder(subset: Subset) -> Path | None:
    """Where a subset's masks lie: in a folder of the pictures' folder's name if there is one."""
    folder = subset.conditioning_data_dir
    if folder is None:
        return None
    inner = folder / subset.image_dir.resolve().name
    return inner if inner.is_dir() else folder
