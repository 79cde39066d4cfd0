"""The command line ``oo``: JSON in dotted flags, sent over HTTP, JSON out. What it does and why is in docs/command-line.md."""
