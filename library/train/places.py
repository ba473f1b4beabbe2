"""Whether the folders that a run writes into can be made and written, tried before anything heavy is done."""

from library.errors import InputError
from library.files import why_unwritable
from library.settings import Settings
from library.train.data import cache_folder

REMEDIES = {
    "output_dir": "give another folder",
    "logging_dir": "give another folder",
    "cache_dir": "set cache_dir, or XDG_CACHE_HOME, to a folder of yours",
}


def check_places(settings: Settings) -> None:
    """Raises InputError naming every folder into which nothing can be written; leaves nothing behind."""
    folders = {"output_dir": settings.output_dir, "logging_dir": settings.logging_dir}
    wrong = []
    for name, folder in (folders | {"cache_dir": cache_folder(settings)}).items():
        if reason := why_unwritable(folder):
            wrong.append(f"{name} '{folder}' cannot be written ({reason}); {REMEDIES[name]}.")
    if wrong:
        raise InputError.of(wrong)
