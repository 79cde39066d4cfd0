"""Wire formats as files under ``snapshots/``: a change of one shows up as a diff there. ``UPDATE_SNAPSHOTS=1`` writes them."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "snapshots"


def check_json(name: str, value: Any) -> None:
    """``value`` as it is in ``<name>.json``, the order of its keys included."""
    check_text(f"{name}.json", json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_text(name: str, text: str) -> None:
    """``text`` as it is in the file. Fails with a diff."""
    path = FOLDER / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    diff = difflib.unified_diff(kept.splitlines(), text.splitlines(), f"kept {name}", "now", lineterm="")
    assert kept == text, "\n".join(diff) + "\n(UPDATE_SNAPSHOTS=1 accepts it)"
