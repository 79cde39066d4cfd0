"""Copies the table of the last benchmark run into the README, between its markers.

python -m scripts.readme_bench
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "serving.md"
BEGIN, END = "<!-- bench:begin -->\n", "<!-- bench:end -->\n"
NOT_MEASURED = (
    "Not measured yet: `make bench` compares it with vLLM's own server and `ray.serve.llm` on your machine.\n"
)


def table(results: Path = RESULTS) -> str:
    """What belongs between the markers: the results, with headings that fit below the README's."""
    if not results.exists():
        return NOT_MEASURED
    return re.sub(r"^#", "###", results.read_text(encoding="utf-8").strip(), flags=re.MULTILINE) + "\n"


def with_table(readme: str, inside: str) -> str:
    """The README with the table in its place.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"README.md must have {BEGIN.strip()} and {END.strip()} once each")
    return f"{before}{BEGIN}{inside}{END}{after}"


def main() -> None:
    README.write_text(with_table(README.read_text(encoding="utf-8"), table()), encoding="utf-8")


if __name__ == "__main__":
    main()
