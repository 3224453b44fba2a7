"""The command line: one file a verb, imported when it is called.

A verb's module has ``add_arguments(parser)`` and ``run(arguments)``; the table below names it. Exit codes: 0 success,
2 wrong usage or bad input (one line on standard error), 75 (EX_TEMPFAIL) stopped by SIGTERM with its state saved: start
it again; 1 anything else.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

VERBS = {
    "simulate": "make a map set with a simulator",
    "slabs": "cut 2D slabs from a 3D map set",
    "cubes": "cut smaller cubes from a 3D map set",
    "patches": "cut square patches from maps of the sky",
    "train": "train a generator by a recipe",
    "sample": "paint maps with a checkpoint",
    "merge": "join the shards of a job array",
    "validate": "compare a checkpoint or generated maps with the truth",
    "compare": "several models on one test set: one table, one figure",
    "info": "what a map set or a checkpoint holds",
    "demo": "sample and validate with a shipped checkpoint on shipped maps",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``higan``; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in argv if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(prog="higan", description="Conditional GAN for cosmological mock maps.")
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    module = None
    for name, summary in VERBS.items():
        sub = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if name == verb:
            module = importlib.import_module(f"higan.cli.{name}")
            module.add_arguments(sub)
    arguments = parser.parse_args(argv)
    if arguments.version:
        from higan import __version__

        print(f"higan {__version__}")
        return 0
    if module is None:
        parser.print_help()
        return 2

    from higan.errors import HiganError

    shown = warnings.showwarning

    def show(
        message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        if category.__module__.startswith("higan"):
            print(f"higan {verb}: {message}", file=sys.stderr)
        else:
            shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        return module.run(arguments) or 0
    except HiganError as error:
        if arguments.debug:
            raise
        print(f"higan {verb}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"higan {verb}: stopped by the keyboard.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of standard output has gone (``higan info … | head``): not an error worth a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if arguments.debug:
            raise
        print(
            f"higan {verb}: unexpected {type(error).__name__}: {error} (add --debug for the traceback)",
            file=sys.stderr,
        )
        return 1
    finally:
        warnings.showwarning = shown
