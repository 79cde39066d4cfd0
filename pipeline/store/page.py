"""What a listing answers."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.prompt import Prompt

#: Texts of the prompts on one page, bytes in the store; a page ends before it gets longer. Read, such a prompt may take more than
#: twenty times as much memory.
MOST_PAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    prompts: list[Prompt]
    #: All matches, whatever limit and cursor; None unless the query asked.
    count: int | None = None
    #: There may be more than ``count``: the bounds were reached.
    is_count_partial: bool = False
    #: Where to go on; None when nothing is left.
    after: str | None = None
    #: The bounds were reached: the page is short, or, in another order than by creation, only a window of prompts was sorted.
    is_truncated: bool = False
