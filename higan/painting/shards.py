"""Shards of a job array: equal parts of the work, painted by jobs of their own and joined afterwards."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from higan.errors import MapSetError, ParameterError
from higan.mapset import PER_MAP, MapSet, parts
from higan.mapset_writer import MADE_FROM, MapSetWriter
from higan.progress import progress


@dataclasses.dataclass(frozen=True)
class Shard:
    """The `number`-th of `of` equal, contiguous parts, counted from 1.

    Examples
    --------
    >>> [Shard.read(f"{i}/3").of_items(10) for i in (1, 2, 3)]
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """From ``"i/n"``; ParameterError where that is no shard."""
        try:
            number, of = map(int, text.split("/"))
        except ValueError:
            number, of = 0, 0
        if not 1 <= number <= of:
            raise ParameterError(f"--shard must be i/n with whole numbers 1 <= i <= n, received {text!r}.")
        return cls(number, of)

    def of_items(self, n: int, what: str = "maps", hint: str = "Take fewer shards.") -> slice:
        """Which of `n` items are the shard's; ParameterError where there are not enough for all shards."""
        if n < self.of:
            raise ParameterError(f"{n} {what} cannot be shared among {self.of} shards. {hint}")
        return slice((self.number - 1) * n // self.of, self.number * n // self.of)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the root of a shard's map set says of it."""
        return {"shard": self.number, "shards": self.of}


def merge(paths: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Join the shards of a job array into the map set that one job would have painted.

    Parameters
    ----------
    paths : sequence of path
        Every shard, in any order.
    path : path
        Appears whole or not at all. A call that was interrupted is taken up by the next.
    overwrite : bool

    Returns
    -------
    Path

    Raises
    ------
    MapSetError
        If a file is no shard, one is missing or there twice, or one is of another run.
    OutputError
        If the output exists or cannot be written.
    """
    for shard in map(Path, paths):
        if shard.suffix.lower() == ".zarr":
            raise MapSetError(f"{shard} needs no merging: the shards of a .zarr write to one array. Use it as it is.")
    shards = _in_order([MapSet.open(shard) for shard in paths])
    first, n = shards[0], sum(map(len, shards))
    extra = {
        name: np.concatenate([maps.extra[name] for maps in shards]) if name in PER_MAP else values
        for name, values in first.extra.items()
    }
    own = (*Shard(1, 1).attributes, MADE_FROM, "painted_from_sha256")
    attributes = {name: value for name, value in first.attributes.items() if name not in own}
    attributes["seed"] = np.uint64(attributes["seed"])
    with (
        MapSetWriter(
            path,
            first,
            {name: (field.shape, field.units, field.long_name) for name, field in first.fields.items()},
            n,
            simulation=np.concatenate([maps.simulation for maps in shards]),
            extra=extra,
            attributes=attributes,
            overwrite=overwrite,
            made_from=first.attributes["painted_from_sha256"],
        ) as writer,
        progress("merging", n, done=n - int(writer.left.sum())) as advance,
    ):
        start = 0
        for maps in shards:
            for rows, place in parts(len(maps), maps.shape):
                index = slice(start + rows.start, start + rows.stop)
                if not writer.left[index].any():
                    continue
                rows_read = range(rows.start, rows.stop)
                writer.write(
                    index.start, {name: maps.read(name, rows_read, place=place) for name in maps.fields}, place
                )
                if not place or place[0].stop == maps.shape[0]:
                    advance(int(writer.left[index].sum()))
            start += len(maps)
    return Path(path)


def _in_order(found: Sequence[MapSet]) -> list[MapSet]:
    """The shards in their order, if they are all there are of one run, once each."""
    for maps in found:
        if not {"shard", "shards", "painted_from_sha256"} <= maps.attributes.keys():
            raise MapSetError(f"{maps.name} is no shard: it was not painted with --shard. Leave it out.")
    first = found[0]
    ours = _run(first)
    for maps in found[1:]:
        for what, value in _run(maps).items():
            if value != ours[what]:
                raise MapSetError(
                    f"{maps.name} is of another run than {first.name}: its {what} differs"
                    + (f" ({value}, not {ours[what]})" if len(f"{value}{ours[what]}") < 80 else "")
                    + ". Merge the shards of one job array."
                )
    of = int(first.attributes["shards"])
    numbered: dict[int, MapSet] = {}
    for maps in found:
        number = int(maps.attributes["shard"])
        if number in numbered:
            raise MapSetError(f"{numbered[number].name} and {maps.name} are both shard {number}/{of}. Give each once.")
        numbered[number] = maps
    missing = [str(number) for number in range(1, of + 1) if number not in numbered]
    if missing:
        raise MapSetError(
            f"shard{'s' * (len(missing) > 1)} {', '.join(missing)} of {of} "
            f"{'are' if len(missing) > 1 else 'is'} missing. Give all shards of the job array."
        )
    return [numbered[number] for number in sorted(numbered)]


def _run(maps: MapSet) -> dict[str, Any]:
    """All that the shards of a run have in common, the telling first."""
    attributes = {name: value for name, value in maps.attributes.items() if name not in ("shard", MADE_FROM)}
    names = {"shards": "number of shards", "checkpoint_sha256": "checkpoint", "painted_from_sha256": "input"}
    order = ["shards", "seed", "realisations", "checkpoint_sha256", "painted_from_sha256", *sorted(attributes)]
    return {
        **{names.get(name, name): attributes.get(name) for name in order},
        "version of higan": maps.created_by,
        "geometry": maps.geometry,
        "list of parameters": [maps.parameter_info, maps.parameters.tolist()],
        "list of fields": {name: (field.shape, field.units) for name, field in maps.fields.items()},
        "simulator": (maps.simulator, maps.simulator_version),
        "list of simulations": {k: v.tolist() for k, v in maps.extra.items() if k not in PER_MAP},
    }
