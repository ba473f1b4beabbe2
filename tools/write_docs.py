"""Writes the tables of docs/SETTINGS.md from the settings themselves.

python tools/write_docs.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from library.cli import argument_parser, run_program  # noqa: E402
from library.files import write_atomically  # noqa: E402
from library.settings import settings_table  # noqa: E402

PAGE = ROOT / "docs" / "SETTINGS.md"
MARK = "<!-- The tables below are made by tools/write_docs.py from library/settings. -->\n"


def settings_page() -> str:
    """The page as it should be: what was written by hand down to the mark, then the tables."""
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    return f"{head}{MARK}\n{settings_table()}"


def main() -> int:
    """Rewrites the page."""
    argument_parser("Writes the tables of docs/SETTINGS.md from the settings themselves.").parse_args()
    page = settings_page()
    write_atomically(PAGE, lambda path: path.write_text(page, encoding="utf-8"))
    return 0


if __name__ == "__main__":
    run_program(main)
