"""The query language of a listing: what may be asked, and which prompts answer it. Nothing here knows a store."""

from pipeline.query.fields import nanoseconds
from pipeline.query.narrowing import LATEST_US, Narrowed, Range, narrow
from pipeline.query.order import SortedCursor
from pipeline.query.parse import DEFAULT_LIMIT, MOST, Query, newest_first, one_of, parse_query

__all__ = [
    "DEFAULT_LIMIT",
    "LATEST_US",
    "MOST",
    "Narrowed",
    "Query",
    "Range",
    "SortedCursor",
    "nanoseconds",
    "narrow",
    "newest_first",
    "one_of",
    "parse_query",
]
