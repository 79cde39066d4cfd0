"""What a listing answers."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.prompt import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    prompts: list[Prompt]
    #: All matches, whatever limit and cursor; None unless the query asked.
    count: int | None = None
    #: There may be more than ``count``: the bounds were reached.
    is_count_partial: bool = False
    #: Where to go on; None when nothing is left.
    after: str | None = None
    #: The bounds were reached. By creation the page is short then, in another order only a window of prompts was sorted.
    is_truncated: bool = False
