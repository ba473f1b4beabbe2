"""Which captions are edited or counted: by the tags that they have, by a pattern, or because they are empty."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from library.prepare.tag_table import tags_of


@dataclass(frozen=True)
class Selection:
    """What a caption must be like; everything that is given has to hold, and nothing given takes all.

    `all_of` and `any_of` must be among the tags, `none_of` must not; `pattern` is found anywhere in the caption.
    """

    all_of: Collection[str] = ()
    any_of: Collection[str] = ()
    none_of: Collection[str] = ()
    pattern: re.Pattern[str] | None = None
    only_empty: bool = False

    def takes(self, text: str | None, separator: str = ",") -> bool:
        """Whether a caption is taken; None stands for no caption, which is like an empty one."""
        tags = tags_of(text, separator)
        return (
            tags.issuperset(self.all_of)
            and (not self.any_of or not tags.isdisjoint(self.any_of))
            and tags.isdisjoint(self.none_of)
            and (self.pattern is None or self.pattern.search(text or "") is not None)
            and not (self.only_empty and text)
        )
