"""The other public APIs. Each is a translation of its own package; none has its own way to run a prompt."""
