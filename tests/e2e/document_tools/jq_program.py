"""As much of the program ``jq`` as the document's commands use, around its library: ``jq [-r] [-e] PROGRAM``."""

from __future__ import annotations

import json
import sys

import jq


def main(arguments: list[str]) -> int:
    options = {argument for argument in arguments if argument.startswith("-")}
    (program,) = [argument for argument in arguments if argument not in options]
    if not options <= {"-r", "-e"}:
        print(f"jq: unknown options {options}", file=sys.stderr)
        return 2
    value = None
    try:
        for value in jq.compile(program).input_text(sys.stdin.read()):
            print(value if "-r" in options and isinstance(value, str) else json.dumps(value, indent=2))
    except ValueError as error:
        print(f"jq: error: {error}", file=sys.stderr)
        return 5
    return 1 if "-e" in options and value in (None, False) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
