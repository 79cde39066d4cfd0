"""``prompt-chat``: a conversation with a model in a terminal, or through a pipe (docs/chat.md)."""
