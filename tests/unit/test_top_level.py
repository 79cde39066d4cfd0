"""The shape of the repository (DESIGN §1): what is at its top, which way imports point, how long files get."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_LINES = 450
#: Packages below which a package must not import anything.
FORBIDDEN = {
    "pipeline": {"ray", "starlette", "sse_starlette", "uvicorn", "fastapi", "vllm", "torch", "deployments", "clients"},
    "clients": {"deployments"},
    "deployments": {"clients", "tests"},
}
#: Where somebody's machine shows: home directories and this project's own workplaces.
_MACHINE = re.compile(r"/(?:home|Users)/[\w.-]+/|/root/|/work/(?:main|wt-|shared)")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize(
    "name", ["serve_config.yaml", "cluster.yaml", "pyproject.toml", "README.md", "Makefile", "LICENSE", ".ci/run"]
)
def test_a_top_level_file_is_there(name: str):
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("name", ["deployments", "pipeline", "clients", "tests", "benchmarks", "docs", "deploy"])
def test_a_top_level_folder_is_there_with_something_in_it(name: str):
    assert any((ROOT / name).iterdir())


@pytest.mark.parametrize("layer", ["unit", "integration", "e2e", "chaos"])
def test_every_layer_has_tests(layer: str):
    assert list((ROOT / "tests" / layer).glob("test_*.py"))


def test_ci_can_run():
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in tracked(f"{package}/*.py")
        for name in imported(path)
        if name in FORBIDDEN[package]
    ]
    assert wrong == []


def test_only_the_store_package_talks_to_the_store():
    """A type from redis may be named elsewhere, and its errors caught; clients are made in ``pipeline/store``."""
    makes = re.compile(r"from_url\(|from_pool\(|Redis\(")
    wrong = [
        str(path.relative_to(ROOT))
        for path in tracked("pipeline/*.py", "deployments/*.py", "clients/*.py")
        if makes.search(path.read_text(encoding="utf-8"))
        and path.parts[-3:-1] != ("pipeline", "store")
        and path.parts[-2] != "local"  # the launcher pings the store before anything runs
    ]
    assert wrong == []


def test_no_python_file_is_too_long():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in tracked("*.py")}
    assert {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > MOST_LINES} == {}


def test_no_file_knows_a_machine():
    wrong = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        if path.name != Path(__file__).name and (found := _MACHINE.search(text)):
            wrong.append(f"{path.relative_to(ROOT)}: {found.group()}")
    assert wrong == []
