"""The files of a batch: records appended whole, found again after a kill -9; the job file that says what they belong to."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import BinaryIO

import pytest

from clients.batch import job as module
from clients.batch.errors import BatchStopped
from clients.batch.job import JobFile, fingerprint
from clients.batch.lines import extent
from clients.batch.main import _errors_beside
from clients.batch.records import LineSet, Records

INPUT = b'{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}'


def test_a_million_lines_take_a_bit_each():
    lines = LineSet()
    for number in range(0, 1_000_001, 1000):
        lines.add(number)
    lines.add(1000)
    assert lines.count == 1001
    assert 1000 in lines
    assert 1001 not in lines
    assert 2**40 not in lines
    assert len(lines._bits) < 130_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def opened(path: Path, lines: int = 10) -> tuple[Records, LineSet]:
    found = LineSet()
    return Records(path, found, lines=lines), found


def test_records_are_found_again(path: Path):
    records, found = opened(path)
    assert (found.count, records.before) == (0, 0)
    records.write({"line": 2, "text": "Grüße\n🚀"})
    records.write({"line": 7})
    # Nothing is closed or flushed: the process dies here.
    records, found = opened(path)
    assert [number for number in range(11) if number in found] == [2, 7]
    assert records.before == 2
    assert json.loads(path.read_text().splitlines()[0])["text"] == "Grüße\n🚀"
    records.close()


@pytest.mark.parametrize("torn", [b'{"line": 5, "text": "ha', b"\0\0\0\0", b'{"line": 5}'])
def test_a_record_that_was_cut_off_counts_as_none(path: Path, torn: bytes):
    path.write_bytes(b'{"line":2}\n' + torn)
    records, found = opened(path)
    assert (2 in found, 5 in found) == (True, False)
    records.write({"line": 5})
    assert path.read_bytes() == b'{"line":2}\n{"line":5}\n'


@pytest.mark.parametrize(
    "line", [b"my notes", b"[]", b"3", b'{"text": 1}', b'{"line": "2"}', b'{"line": 0}', b'{"line": 11}']
)
def test_a_file_of_something_else_is_not_written_to(path: Path, line: bytes):
    path.write_bytes(b'{"line":2}\n' + line + b"\n")
    with pytest.raises(BatchStopped, match="its line 2 is no record of a line of this input"):
        opened(path)
    assert path.read_bytes() == b'{"line":2}\n' + line + b"\n"


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path):
    with pytest.raises(BatchStopped, match="cannot be used: No such file or directory"):
        opened(tmp_path / "none" / "out.jsonl")


def test_a_full_disk_stops_the_run():
    class Full(io.RawIOBase):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    records = object.__new__(Records)
    records.path, records._file = Path("out.jsonl"), Full()  # type: ignore[assignment]
    with pytest.raises(BatchStopped, match=r"out\.jsonl cannot be written: No space left on device"):
        records.write({"line": 1})


class Begun:
    """Runs over one output."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.errors = output.with_name("errors.jsonl")

    def job_file(self) -> JobFile:
        return JobFile(self.output, self.errors)

    def name(self, content: bytes, name: str | None = None) -> str:
        job_file = self.job_file()
        try:
            job = job_file.begin(source(content), extent(source(content)), name)
            assert job.input.bytes == len(content)
            return job.name
        finally:
            job_file.close()


def source(content: bytes) -> BinaryIO:
    return io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]


@pytest.fixture
def begun(path: Path) -> Begun:
    return Begun(path)


def test_a_run_over_the_same_output_is_the_same_job_and_over_another_one_another(begun: Begun, tmp_path: Path):
    name = begun.name(INPUT)
    begun.output.write_bytes(b'{"line":1}\n')
    assert begun.name(INPUT) == name
    assert Begun(tmp_path / "other.jsonl").name(INPUT) != name


def test_a_prompts_id_is_the_jobs_name_and_the_line(begun: Begun):
    job_file = begun.job_file()
    assert job_file.begin(source(INPUT), extent(source(INPUT)), "nightly").prompt_id(17) == "nightly:17"
    job_file.close()


def test_a_job_keeps_the_name_it_was_given(begun: Begun):
    assert begun.name(INPUT, "nightly") == "nightly"
    assert begun.name(INPUT) == "nightly"
    with pytest.raises(BatchStopped, match=r"got 'weekly', but .* belongs to nightly"):
        begun.name(INPUT, "weekly")


@pytest.mark.parametrize("name", ["", "a b", "-x", "ä", "a:b", "a" * 129])
def test_a_name_that_is_none_is_refused(begun: Begun, name: str):
    with pytest.raises(BatchStopped, match="--job: got"):
        begun.name(INPUT, name)


@pytest.mark.parametrize("added", [b"\n", b'\n{"prompt": "d"}\n'])
def test_lines_may_be_added_at_the_end(begun: Begun, added: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PIECE", 7)
    name = begun.name(INPUT)
    assert begun.name(INPUT + added) == name
    assert begun.name(INPUT + added + b"\n") == name


@pytest.mark.parametrize(
    "changed", [INPUT[:-1], INPUT.replace(b"b", b"B"), b"\n" + INPUT, INPUT + b"}", b"", INPUT[16:]]
)
def test_another_input_is_noticed(begun: Begun, changed: bytes):
    begun.name(INPUT)
    with pytest.raises(BatchStopped, match="the input has changed since this output was begun"):
        begun.name(changed)
    begun.name(INPUT)


def test_half_a_line_at_the_end_belongs_to_the_next_run(begun: Begun):
    half = INPUT + b'\n{"prompt": "d'
    job_file = begun.job_file()
    job = job_file.begin(source(half), extent(source(half)), None)
    job_file.close()
    assert (job.input.bytes, job.input.lines) == (len(INPUT) + 1, 3)
    assert begun.name(half + b'"}\n') == job.name


def test_a_line_that_grew_is_another_one(begun: Begun):
    name = begun.name(INPUT)
    with pytest.raises(BatchStopped, match="the input has changed"):
        begun.name(INPUT + b', "and more')
    assert begun.name(INPUT) == name


def test_an_input_that_was_empty_may_become_anything(begun: Begun):
    assert begun.name(b"") == begun.name(INPUT)


def test_lines_are_counted_as_they_are_read():
    for content, lines in ((b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3)):
        assert fingerprint(source(content), len(content)).lines == lines  # type: ignore[arg-type]


def test_a_file_of_something_else_is_not_taken_for_an_output(begun: Begun):
    begun.output.write_bytes(b"my notes\n")
    with pytest.raises(BatchStopped, match="is not empty, and no job of its own"):
        begun.name(INPUT)


def test_an_error_file_of_another_job_is_not_taken_for_one_of_a_new_one(begun: Begun):
    begun.errors.write_bytes(b'{"line":2}\n')
    with pytest.raises(BatchStopped, match=r"errors\.jsonl is not empty, and of another job; remove it"):
        begun.name(INPUT)
    begun.errors.unlink()
    begun.name(INPUT)
    begun.errors.write_bytes(b'{"line":2}\n')
    begun.name(INPUT)


def test_who_changed_the_input_is_told_everything_that_is_in_the_way(begun: Begun):
    begun.name(INPUT)
    with pytest.raises(
        BatchStopped, match=r"or remove .*out\.jsonl, .*errors\.jsonl and .*out\.jsonl\.job to begin anew"
    ):
        begun.name(INPUT[16:])


def test_a_job_file_that_was_cut_off_began_nothing(begun: Begun):
    begun.name(INPUT)
    file = begun.output.with_name("out.jsonl.job")
    file.write_bytes(file.read_bytes()[:20])
    begun.name(INPUT)


def test_two_runs_do_not_share_an_output(begun: Begun):
    running = begun.job_file()
    with pytest.raises(BatchStopped, match="another run is writing to"):
        begun.job_file()
    running.close()
    begun.job_file().close()


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        ("out.jsonl", "out.errors.jsonl"),
        ("answers.2026-10-01", "answers.2026-10-01.errors.jsonl"),
        ("answers.2026-10-02", "answers.2026-10-02.errors.jsonl"),
        ("answers", "answers.errors.jsonl"),
    ],
)
def test_every_output_has_an_error_file_of_its_own(tmp_path: Path, output: str, errors: str):
    assert _errors_beside(tmp_path / output) == tmp_path / errors
