"""What holds for all tests of library/data: warnings are said anew in each, slow machines are no error."""

import pytest
from hypothesis import settings

from library.log import warn

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _warnings_anew() -> None:
    warn.cache_clear()
