from pathlib import Path

import pytest

from scripts.readme_bench import BEGIN, END, NOT_MEASURED, README, table, with_table


def test_the_readme_has_the_table_of_the_last_run():
    readme = README.read_text(encoding="utf-8")
    assert readme == with_table(readme, table()), "python -m scripts.readme_bench copies it"


def test_without_results_it_says_so(tmp_path: Path):
    assert table(tmp_path / "none.md") == NOT_MEASURED


def test_the_table_goes_between_the_markers(tmp_path: Path):
    results = tmp_path / "serving.md"
    results.write_text("\n| new |\n\n")
    assert with_table(f"a\n{BEGIN}old\n{END}b\n", table(results)) == f"a\n{BEGIN}| new |\n{END}b\n"


@pytest.mark.parametrize("readme", ["", BEGIN, END, END + BEGIN, BEGIN + BEGIN + END, BEGIN + END + END])
def test_markers_that_are_not_as_they_should_be_are_refused(readme: str):
    with pytest.raises(ValueError, match="once each"):
        with_table(readme, "x")
