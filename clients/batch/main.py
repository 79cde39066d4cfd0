"""The command line of a batch."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from clients.batch.errors import BatchStopped, ExitCode
from clients.batch.job import JobFile
from clients.batch.lines import Line, extent, read_lines
from clients.batch.meter import Meter
from clients.batch.progress import shown
from clients.batch.records import LineSet, Records
from clients.batch.runner import Runner
from clients.batch.services import BatchService, HandleService, HttpService
from clients.errors import PromptSvcError
from clients.handle import APP, AsyncPromptHandle

#: Holds the access token for ``--url``: a command line is seen by everybody.
TOKEN_VARIABLE = "PROMPT_SVC_TOKEN"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def batch(
    source: Annotated[Path, typer.Argument(metavar="IN", help="JSONL: one request body per line.", show_default=False)],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="JSONL: one answer per line, in no order.", show_default=False)
    ],
    errors: Annotated[
        Path | None,
        typer.Option(
            help="JSONL: one object per line that got no answer. Default: OUT, less its .jsonl, and .errors.jsonl."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Lines in flight at a time.")] = 64,
    job: Annotated[
        str | None, typer.Option(help="Name that the prompts' ids begin with. Default: a random one per output.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Id or slug of the user to act for, inside Ray. Default: service-job.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help=f"Address of the service, to go there by HTTP with the token in {TOKEN_VARIABLE}."),
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File that holds the token.")] = None,
    app_name: Annotated[str, typer.Option("--app", help="Name of the Serve application, inside Ray.")] = APP,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to ask again while the service is away before the run stops.")
    ] = 300.0,
) -> None:
    """Run the prompts of a JSONL file and write the answers to another. The same command again goes on where it was stopped.

    Inside a Ray job it uses the application's handle, so it needs no token; elsewhere give --url.
    """
    try:
        with ExitStack() as stack:
            run = _prepare(stack, source, output, errors or _errors_beside(output), job)
            if url is None:
                service: BatchService = _inside_ray(stack, app_name, user, patience)
            else:
                if user is not None:
                    raise BatchStopped("--user: got a name beside --url, allowed is none: the token says who it is")
                if not url.startswith(("http://", "https://")):
                    raise BatchStopped(f"--url: got {url!r}, allowed is an address such as http://127.0.0.1:11337")
                service = HttpService(url, _token(token_file), connections=concurrency, patience_s=patience)
            code = asyncio.run(run.go(service, concurrency))
    except BatchStopped as stopped:
        print(f"batch: {stopped}", file=sys.stderr)
        raise typer.Exit(stopped.code) from None
    except Exception:
        traceback.print_exc()
        print("batch: a fault of this program; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(ExitCode.FAULT) from None
    raise typer.Exit(code)


def main() -> None:
    app()


class _Run:
    """Files that are open and what is left to do."""

    def __init__(self, source: BufferedReader, output: Path, errors: Path, job_file: JobFile, name: str | None) -> None:
        found = extent(source)
        self.job = job_file.begin(source, found, name)
        lines = self.job.input.lines
        #: Whether a beginning of a line is left to the next run.
        self._has_rest = found.has_rest and self.job.input.bytes == found.bytes
        self._done = LineSet()
        self.answers = Records(output, self._done, lines=lines)
        self.errors = Records(errors, self._done, lines=lines)
        self.meter = Meter(lines=lines, answered_before=self.answers.before, errors_before=self.errors.before)
        self._source = source

    async def go(self, service: BatchService, concurrency: int) -> int:
        """Run what is left; returns the exit code. SIGINT and SIGTERM end it at once.

        Raises:
            BatchStopped: it cannot go on.
        """
        task = asyncio.current_task()
        assert task is not None
        caught: list[signal.Signals] = []

        def stop(number: signal.Signals) -> None:
            caught.append(number)
            assert task is not None
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        runner = Runner(service, self.job, self._left(), answers=self.answers, errors=self.errors, meter=self.meter)
        try:
            await _check(service)
            async with shown(self.meter, sys.stderr):
                await runner.run(concurrency)
        except asyncio.CancelledError:
            if not caught:
                raise
        finally:
            await service.close()
            self.answers.close()
            self.errors.close()
            print(self.meter.summary(), flush=True)
        if caught:
            print("batch: stopped; the same command goes on from here", file=sys.stderr, flush=True)
            return 128 + caught[0]
        if self._has_rest:
            print(
                f"batch: the input's last line, {self.job.input.lines + 1}, had no end and was no JSON object: cut off, or still "
                "being written? It is left to the next run; with a line end it is a line like any other",
                file=sys.stderr,
                flush=True,
            )
        return ExitCode.WITH_ERRORS if self.errors.before + self.meter.errors or self._has_rest else ExitCode.DONE

    def _left(self) -> Iterator[Line]:
        # What is added meanwhile is the next run's: the last of it may be half a line.
        for line in islice(read_lines(self._source), self.job.input.lines):
            if line.is_blank:
                self.meter.lines -= 1
            elif line.number not in self._done:
                yield line


def _errors_beside(output: Path) -> Path:
    """The error file of an output, if none is named. What a name ends in other than ``.jsonl`` tells it from others."""
    return output.with_name(output.name.removesuffix(".jsonl") + ".errors.jsonl")


def _prepare(stack: ExitStack, source: Path, output: Path, errors: Path, name: str | None) -> _Run:
    """Raises BatchStopped."""
    if len({path.resolve() for path in (source, output, errors)}) != 3:
        raise BatchStopped("the input, the output and the error file must be three files")
    if not source.is_file():
        raise BatchStopped(f"{source} is not a file")
    try:
        file = stack.enter_context(source.open("rb"))
    except OSError as error:
        raise BatchStopped(f"{source} cannot be read: {error.strerror}") from None
    job_file = JobFile(output, errors)
    stack.callback(job_file.close)
    return _Run(file, output, errors, job_file, name)


def _inside_ray(stack: ExitStack, app_name: str, user: str | None, patience_s: float) -> BatchService:
    """Raises BatchStopped: there is no Ray, or the application is not on it."""
    import ray
    import ray.serve

    from clients.handle import app_handle

    # A job's log is for the batch. Only now: the import sets the level anew.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    except ConnectionError:
        raise BatchStopped(
            "there is no Ray here: run it as a Ray job, set RAY_ADDRESS, or go by HTTP with --url", ExitCode.NO_SERVICE
        ) from None
    stack.callback(ray.shutdown)
    try:
        handle = app_handle(app_name)
    except PromptSvcError as error:
        raise BatchStopped(error.message, ExitCode.NO_SERVICE) from None
    return HandleService(AsyncPromptHandle(app_name, user=user, patience_s=patience_s, handle=handle))


def _token(file: Path | None) -> str:
    """Raises BatchStopped."""
    try:
        token = os.environ.get(TOKEN_VARIABLE, "") if file is None else file.read_text(encoding="utf-8")
    except OSError as error:
        raise BatchStopped(f"{file} cannot be read: {error.strerror}") from None
    if not token.strip():
        raise BatchStopped(f"no token: put one into {TOKEN_VARIABLE} or a file for --token-file")
    return token.strip()


async def _check(service: BatchService) -> None:
    try:
        await service.check()
    except PromptSvcError as error:
        raise BatchStopped(f"the service cannot be used: {error.message}", ExitCode.NO_SERVICE) from None
