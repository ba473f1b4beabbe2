"""What a run is told: settings from command line and TOML, checked before anything heavy is imported."""

from library.settings.fields import Settings
from library.settings.reading import read_settings
from library.settings.table import settings_table
from library.settings.tables import DatasetTable, ResolvedSubset, SubsetTable
from library.settings.writing import write_settings

__all__ = [
    "DatasetTable",
    "ResolvedSubset",
    "Settings",
    "SubsetTable",
    "read_settings",
    "settings_table",
    "write_settings",
]
