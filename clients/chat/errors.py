"""What goes wrong for a user of the chat. The message is the one line that they see."""

from __future__ import annotations


class ChatError(Exception):
    """The chat cannot go on. Shown on stderr as ``prompt-chat: <message>``, exit code 1."""


class Busy(Exception):
    """The service is away, or asks for patience. The message says what it said."""


class NotAllowed(ChatError):
    """Who asks is not logged in, or not any more."""
