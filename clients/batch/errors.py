"""Why a batch stops before its end."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Exit codes of the program (docs/batch.md). Signals add 128 + their number."""

    #: Every line has its answer.
    DONE = 0
    #: Every line that is whole is done; some are in the error file, or the last one is not whole.
    WITH_ERRORS = 1
    #: Nothing was begun, or a file cannot be written: an option, the input or an output is wrong.
    UNUSABLE = 2
    #: The service is away or does not let this caller in. The same command goes on where this run stopped.
    NO_SERVICE = 3
    #: A fault of this program. Python's own code for one is 1, which says here that every line is done.
    FAULT = 4


class BatchStopped(Exception):
    """The run ends here. Its message is the one line that the user sees."""

    def __init__(self, message: str, code: ExitCode = ExitCode.UNUSABLE) -> None:
        super().__init__(message)
        self.code = code
