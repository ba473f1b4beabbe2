"""The documentation says what the code does."""

import re
from pathlib import Path

from tools.write_docs import settings_page

ROOT = Path(__file__).resolve().parents[2]


def test_the_settings_page_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    assert page == settings_page(), "run python tools/write_docs.py"


def test_every_file_that_the_documents_name_exists() -> None:
    seen = 0
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                seen += 1
                assert (document.parent / target).exists(), f"{document.name} names {target}"
    assert seen >= 10
