"""What goes wrong for a user of the command line. The message is the one line that they see."""

from __future__ import annotations


class OoError(Exception):
    """The command failed. Shown on stderr as ``oo: <message>``, exit code 1."""
