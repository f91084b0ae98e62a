"""Runs the benchmarks one after the other, and keeps what they print in results.md.

    python benchmarks [NAME | "NAME OPTION…"]…        (make bench)

Without names all are run. Those that are not run keep their section of results.md as it was.
"""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

from nnpipe.files import replacing

HERE = Path(__file__).parent
RESULTS = HERE / "results.md"

BENCHMARKS = (
    "numpy_training",
    "inference",
    "torch_training",
    "scoring",
    "pictures",
    "read_numbers",
    "read_forms",
    "demo",
    "overhead",
    "promotion",
    "own_pictures",
)
"""In the order of the sections."""

HEAD = """# Speed, and how well pictures are read

Made by `make bench`, which starts each command below and keeps what it prints. The ways that a
table compares ran in one process, or one after the other, and took turns. Times and ratios are
medians, with the least and the most in brackets; a ratio is taken within each round.
"""


def read_sections(text: str) -> dict[str, str]:
    """What stands below each heading ``## NAME``."""
    _, *parts = re.split(r"(?m)^## (\w+)\n", text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def write_results(sections: dict[str, str], path: Path = RESULTS) -> None:
    """Write the file, whole or not at all."""
    parts = [f"## {name}\n{sections[name]}" for name in BENCHMARKS if name in sections]
    with replacing(path) as stream:
        stream.write("\n".join([HEAD, *(part.rstrip() + "\n" for part in parts)]).encode())


def run(name: str, options: list[str]) -> str | None:
    """Run a benchmark and show what it prints; its section, or None if it failed."""
    script = f"{name}.py"
    print(f"\n=== {name}", flush=True)
    command = [sys.executable, str(HERE / script), *options]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        print(f"{script} failed; its section stays as it was", file=sys.stderr)
        return None
    return f"\n    {shlex.join(['python', f'benchmarks/{script}', *options])}\n\n{''.join(lines)}"


def main() -> None:
    """Run what is named; exit with 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    about = f"of {', '.join(BENCHMARKS)}; with options in one argument: 'scoring small --rounds 3'"
    parser.add_argument("commands", nargs="*", metavar="NAME", help=about)
    commands = [shlex.split(c) for c in parser.parse_args().commands or BENCHMARKS]
    if unknown := {name for name, *_ in commands} - set(BENCHMARKS):
        parser.error(f"no benchmark is named {', '.join(unknown)}; choose {', '.join(BENCHMARKS)}")
    failed = False
    for name, *options in commands:
        section = run(name, options)
        failed = failed or section is None
        if section:
            # Written after each, lest a later failure cost what took minutes to measure.
            before = RESULTS.read_text("utf-8") if RESULTS.exists() else ""
            write_results(read_sections(before) | {name: section})
    sys.exit(failed)


if __name__ == "__main__":
    main()
