"""``higan simulate SIMULATOR``: make a map set with a simulator."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import types
import typing

from higan.errors import HiganError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A verb of its own for each simulator, with its settings as options."""
    from higan.simulators import SIMULATORS

    names = parser.add_subparsers(dest="simulator", metavar="SIMULATOR", required=True)
    for name, (module, kind) in SIMULATORS.items():
        simulator = getattr(importlib.import_module(module), kind)
        summary = (simulator.__doc__ or "").split("\n", 1)[0]
        sub = names.add_parser(name, help=summary, description=summary)
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.add_argument("--output", required=True, metavar="BOXES.h5", help="the map set to write")
        sub.add_argument(
            "--set",
            default=next(iter(simulator.sets)),
            choices=list(simulator.sets),
            help="; ".join(f"{key}: {what}" for key, what in simulator.sets.items()) + " (default: %(default)s)",
        )
        sub.add_argument(
            "--simulations",
            metavar="ROWS",
            help="how many of the first, or rows of the set: 40, 0:40 (without the 40th), 0:32,160:168",
        )
        sub.add_argument("--processes", type=int, default=1, metavar="N", help="simulations run at once")
        sub.add_argument("--seed", type=int, help="first seed of the set, in place of its own")
        sub.add_argument("--overwrite", action="store_true", help="replace an output that exists")
        settings = sub.add_argument_group("settings of the simulator")
        kinds = typing.get_type_hints(simulator)
        for setting in dataclasses.fields(simulator):
            settings.add_argument(
                "--" + setting.name.replace("_", "-"),
                type=_kind(kinds[setting.name]),
                default=setting.default,
                help=f"{setting.metadata.get('help', '')} (default: %(default)s)",
            )


def run(arguments: argparse.Namespace) -> int:
    """Make the map set."""
    from higan.mapset import MapSet
    from higan.simulators import SIMULATORS, simulate
    from higan.simulators.running import LEFT_OUT

    module, kind = SIMULATORS[arguments.simulator]
    settings = dataclasses.fields(getattr(importlib.import_module(module), kind))
    path = simulate(
        arguments.simulator,
        output=arguments.output,
        set=arguments.set,
        simulations=None if arguments.simulations is None else rows(arguments.simulations),
        processes=arguments.processes,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
        **{setting.name: getattr(arguments, setting.name) for setting in settings},
    )
    maps = MapSet.open(path)
    print(maps)
    if LEFT_OUT in maps.attributes:
        print(f"left out, as measured parameters lie outside their ranges: {maps.attributes[LEFT_OUT]} simulations")
    return 0


def rows(text: str) -> int | list[int]:
    """Rows of a design: a count, or ranges with commas between.

    >>> rows("40"), rows("0:2,5:7")
    (40, [0, 1, 5, 6])
    """
    try:
        if text.isdecimal():
            return int(text)
        chosen: list[int] = []
        for item in text.split(","):
            start, stop = item.split(":")
            chosen += range(int(start), int(stop))
        return chosen
    except ValueError as error:
        raise HiganError(
            f"--simulations {text!r} is not understood. Give a number, or ranges such as 0:40 or 0:32,160:168."
        ) from error


def _kind(hint: typing.Any) -> typing.Any:
    """What turns the text of an option into a setting: int for ``int | None``."""
    if isinstance(hint, types.UnionType):
        return next(item for item in typing.get_args(hint) if item is not types.NoneType)
    return hint
