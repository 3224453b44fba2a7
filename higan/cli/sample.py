"""``higan sample``: paint maps with a checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from higan.checkpoint import Card, FieldCard
    from higan.mapset import MapSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("checkpoint", help="the name of a shipped checkpoint, or a folder")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="MAPSET.h5|MAPS.npy|MAPS.zarr|SKY.fits",
        help="the input maps, of any size, flat or of the sky (HEALPix); left out for a checkpoint that paints from "
        "parameters alone, or draws its density itself",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="OUT.h5|OUT.zarr|OUT.fits",
        help="the map set to write; a zarr array; or a FITS file with the parameters as a table: an image cube of one "
        "field, or HEALPix maps of the sky",
    )
    parser.add_argument("--seed", required=True, type=int, help="of the noise: same seed, same maps")
    parser.add_argument(
        "--parameters",
        metavar="NAME=VALUE,…|TABLE",
        help="for maps in a .npy, .zarr or FITS file, or without --input: one set for all, or a table (FITS, CSV, "
        "ECSV, HDF5, or a map set) with a column a parameter and a row a map",
    )
    parser.add_argument("--realisations", type=int, default=1, metavar="R", help="of each map (default 1)")
    parser.add_argument(
        "--side",
        type=int,
        metavar="N",
        help="cells along a side of what is painted without --input (default: as trained)",
    )
    parser.add_argument("--batch-size", type=int, metavar="B", help="maps at a time (default: by their size)")
    parser.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="paint, read and write in tiles of N cells a side, which bound the memory (default: for large maps)",
    )
    parser.add_argument(
        "--shard",
        metavar="i/n",
        help="paint the i-th of n parts, as a job of an array: parts in .h5 are joined by higan merge, those in .zarr "
        "write to one array",
    )
    parser.add_argument(
        "--scheduler",
        default="threads",
        metavar="threads|processes|ADDRESS",
        help="paint in this process, in several, or on a dask.distributed cluster, tcp://host:8786 (default threads)",
    )
    sky = parser.add_argument_group("maps of the sky", "a checkpoint's cell is as wide as its angle on the shell")
    sky.add_argument("--redshift", type=float, metavar="Z", help="of the shell in a FITS file (default: its REDSHIFT)")
    sky.add_argument(
        "--thickness",
        type=float,
        metavar="D",
        help="of that shell, in the unit of the checkpoint's cells (default: its THICKNES)",
    )
    sky.add_argument("--cell-angle", type=float, metavar="ARCMIN", help="of a cell, whatever the shell is")
    sky.add_argument(
        "--nside", type=int, metavar="N", help="to paint (default: that of the input, if cells are as fine)"
    )
    parser.add_argument("--no-periodic", action="store_true", help="opposite sides of a map do not touch")
    parser.add_argument("--allow-extrapolation", action="store_true", help="take parameters outside the trained range")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def run(arguments: argparse.Namespace) -> None:
    """Check everything that can be checked without a backend, then paint."""
    from higan.checkpoint import find_checkpoint, load_card
    from higan.errors import ParameterError
    from higan.mapset import MapSet
    from higan.mapset_writer import check_output, partial_path
    from higan.painting.fits_cube import check_cube, write_cube
    from higan.painting.fits_sky import check_sky_file, write_sky
    from higan.painting.shards import Shard
    from higan.painting.sphere import lattices
    from higan.sources.healpix import is_fits

    path = arguments.output
    fits, array = is_fits(path), path.suffix.lower() == ".zarr"
    if not array:
        check_output(path, arguments.overwrite)
    if not (fits or path.suffix.lower() in (".h5", ".hdf5", ".zarr")):
        raise ParameterError(f"--output {path} names no format that is written. Let it end in .h5, .zarr or .fits.")
    for name in ("realisations", "batch_size", "tile", "side"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ParameterError(f"--{name.replace('_', '-')} must be at least 1, received {value}.")
    if fits and arguments.shard:
        raise ParameterError("--shard writes .h5 or .zarr, not .fits. Name the output so.")
    shard = Shard.read(arguments.shard) if arguments.shard else None
    folder = find_checkpoint(arguments.checkpoint)
    card = load_card(folder)
    if arguments.input is None:
        shape = card.shape if arguments.side is None else [arguments.side] * card.ndim
        if card.network.network == "profiles" and list(shape) != card.shape:
            raise ParameterError(
                f"--side {arguments.side}: {card.name} paints stamps of {tuple(card.shape)} alone. Leave it out."
            )
        maps = _from_nothing(card, arguments.parameters or "", arguments.allow_extrapolation, shape)
    elif arguments.side is not None:
        raise ParameterError("--side is of maps painted without --input. Leave it out.")
    elif arguments.input.suffix in (".npy", ".npz"):
        maps = _from_npy(arguments, card)
    elif arguments.input.suffix == ".zarr":
        maps = _from_zarr(arguments, card)
    elif is_fits(arguments.input):
        maps = _from_sky(arguments, card)
    elif arguments.parameters is not None:
        raise ParameterError(
            "--parameters goes with a .npy or .zarr file, or a sky in FITS: a map set brings its own. Leave it out."
        )
    else:
        maps = MapSet.open(arguments.input)
    sky = maps.geometry.kind == "healpix"
    _check_options(arguments, sky)
    if sky and array:
        raise ParameterError("Maps of the sky are written as a map set or as FITS. Name the output .h5 or .fits.")
    if fits:
        # Painted as a map set beside it, which can be taken up again.
        path = path.with_name(f".{path.name}.h5")
        fields, n = [item.field for item in card.outputs], len(maps) * arguments.realisations
        if sky:
            check_sky_file(arguments.output, n * len(fields))
        else:
            check_cube(arguments.output, fields, n, maps.shape[: card.ndim])
    if sky:
        # Before a backend is imported.
        lattices(card, maps, arguments.cell_angle)

    from higan.cli.backend import import_backend

    import_backend()
    from higan.emulator import load
    from higan.painting.skies import paint_skies_to_file
    from higan.painting.stream import paint_to_file

    emulator = load(folder)
    shared: dict[str, Any] = {
        "seed": arguments.seed,
        "realisations": arguments.realisations,
        "allow_extrapolation": arguments.allow_extrapolation,
        "overwrite": arguments.overwrite or fits,
    }
    with _resumable(path):
        if sky:
            paint_skies_to_file(emulator, maps, path, cell_angle=arguments.cell_angle, nside=arguments.nside, **shared)
        else:
            paint_to_file(
                emulator,
                maps,
                path,
                batch_size=arguments.batch_size,
                tile=arguments.tile,
                shard=shard,
                scheduler=arguments.scheduler,
                periodic=False if arguments.no_periodic else None,
                drawn=arguments.input is None and card.drawn is not None,
                **shared,
            )
        if fits:
            write = write_sky if sky else write_cube
            try:
                write(MapSet.open(path), arguments.output, overwrite=arguments.overwrite)
            finally:
                path.unlink()
    n = len(maps) * arguments.realisations
    if shard and array:
        left = "" if path.exists() else f", which is {partial_path(path).name} until the others have written theirs"
        print(f"shard {arguments.shard} of {path}{left}")
    elif shard:
        print(f"{path}: shard {arguments.shard}, {len(range(n)[shard.of_items(n)])} of {n} maps")
    else:
        print(f"{arguments.output}: {n} maps")


@contextlib.contextmanager
def _resumable(output: Path) -> Iterator[None]:
    """Where the work is ended and a partial stays, say that the same command goes on; SIGTERM ends it in order."""
    from higan.errors import HiganError
    from higan.mapset_writer import partial_path

    def end(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = None
    with contextlib.suppress(ValueError):  # only the main thread may
        before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except HiganError:
        raise
    except BaseException:
        partial = partial_path(output)
        if partial.exists():
            print(f"higan sample: painted maps are kept in {partial}; the same command goes on there.", file=sys.stderr)
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def parse_parameters(text: str | None) -> dict[str, float]:
    """``"A=1,B=2"`` as a dictionary; ParameterError that names the piece it cannot read."""
    from higan.errors import ParameterError

    values: dict[str, float] = {}
    for piece in filter(None, (text or "").split(",")):
        name, equals, value = piece.partition("=")
        try:
            if not equals or name.strip() in values:
                raise ValueError
            values[name.strip()] = float(value)
        except ValueError:
            raise ParameterError(
                f"--parameters: cannot read {piece!r}; write NAME=VALUE,NAME=VALUE with each name once, or the name of "
                "a table."
            ) from None
    return values


def _from_nothing(card: Card, parameters: str, allow_extrapolation: bool, shape: Sequence[int]) -> MapSet:
    """Maps of `shape`, one a set of parameters, where no inputs are needed; their field is never read."""
    import numpy as np

    from higan.errors import MapSetError

    if card.inputs and card.drawn is None:
        names = ", ".join(item.field for item in card.inputs)
        raise MapSetError(f"{card.name} paints on {names}: give such maps with --input.")
    table = _sets(card, parameters, allow_extrapolation)
    return _map_set(card, card.outputs[0], np.broadcast_to(np.float32(0), (len(table), *shape)), table)


def _sets(card: Card, parameters: str, allow_extrapolation: bool) -> np.ndarray:
    """Sets of parameters as (n, n_par), in the card's order: the rows of a table, or one that is written out."""
    import numpy as np

    from higan.errors import ParameterError
    from higan.sources.tables import is_table, read_parameters

    if not is_table(parameters):
        return _one_set(card, parse_parameters(parameters))
    if not card.parameters:
        raise ParameterError(f"{card.name} takes no parameters: leave out --parameters.")
    columns = read_parameters(parameters, card.parameters, allow_extrapolation=allow_extrapolation)
    return np.stack(list(columns.values()), axis=1)


def _from_npy(arguments: argparse.Namespace, card: Card) -> MapSet:
    """Maps of a .npy file as a map set with the card's geometry: an array says neither its cell nor its unit."""
    import numpy as np

    from higan.errors import MapSetError

    path = arguments.input
    if len(card.inputs) != 1:
        raise MapSetError(f"{card.name} takes {len(card.inputs)} fields: give them as a map set, not as one .npy file.")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MapSetError(f"{path} cannot be read as a .npy file ({error}).") from error
    if not isinstance(array, np.ndarray):
        raise MapSetError(f"{path} is a .npz file, which holds several arrays. Save the maps alone, with numpy.save.")
    if array.ndim == 0:
        raise MapSetError(f"{path} holds a single number, but {card.name} takes maps of {card.ndim} dimensions.")
    if array.ndim == card.ndim:
        array = array[None]
    return _of_array(array, arguments, card)


def _of_array(array: Any, arguments: argparse.Namespace, card: Card) -> MapSet:
    """Maps of an array, with one set of parameters for all or one a map."""
    from higan.errors import ParameterError

    table = _sets(card, arguments.parameters or "", arguments.allow_extrapolation)
    n = array.shape[0]
    if len(table) not in (1, n):
        raise ParameterError(
            f"{arguments.parameters} has {len(table)} rows, but {arguments.input} holds {n} maps. Give a row a map."
        )
    return _map_set(card, card.inputs[0], array, table, arguments.input)


def _from_sky(arguments: argparse.Namespace, card: Card) -> MapSet:
    """The shell in a HEALPix FITS file; what it does not say of its units is that of the card."""
    import dataclasses

    from higan.mapset import Parameter
    from higan.sources.healpix import healpix

    maps = healpix(
        arguments.input,
        [item.field for item in card.inputs],
        redshift=arguments.redshift,
        thickness=arguments.thickness,
    )
    fields = {
        item.field: dataclasses.replace(maps.fields[item.field], units=maps.fields[item.field].units or item.units)
        for item in card.inputs
    }
    if arguments.thickness is not None:
        maps = maps.with_geometry(dataclasses.replace(maps.geometry, box_size_units=card.length_units))
    info = [Parameter(p.name, p.units, p.lower, p.upper) for p in card.parameters]
    return maps.with_fields(fields).with_parameters(_one_set(card, parse_parameters(arguments.parameters)), info)


def _check_options(arguments: argparse.Namespace, sky: bool) -> None:
    """Refuse options that say nothing of the maps that are given."""
    from higan.errors import ParameterError
    from higan.sources.healpix import is_fits

    of_a_file = sky and is_fits(arguments.input)
    for name, allowed, what in (
        ("redshift", of_a_file, "a map of the sky in a FITS file: a map set brings its own"),
        ("thickness", of_a_file, "a map of the sky in a FITS file: a map set brings its own"),
        ("cell_angle", sky, "maps of the sky"),
        ("nside", sky, "maps of the sky"),
        ("batch_size", not sky, "flat maps: a sky is painted face by face"),
        ("tile", not sky, "flat maps: a sky is painted face by face"),
        ("shard", not sky, "flat maps"),
        ("scheduler", not sky, "flat maps"),
        ("no_periodic", not sky, "flat maps: the sky has no sides"),
    ):
        if not allowed and getattr(arguments, name) not in (None, False, "threads"):
            raise ParameterError(f"--{name.replace('_', '-')} goes with {what}. Leave it out.")


def _one_set(card: Card, parameters: dict[str, float]) -> np.ndarray:
    """A set of parameters as (1, n_par), in the card's order."""
    import numpy as np

    from higan.errors import ParameterError

    known = [p.name for p in card.parameters]
    if sorted(parameters) != sorted(known):
        raise ParameterError(
            f"--parameters gives {', '.join(sorted(parameters)) or 'nothing'}; {card.name} takes exactly "
            f"{', '.join(known) or 'none'}."
        )
    for name, value in parameters.items():
        if not np.isfinite(value):
            raise ParameterError(f"--parameters: {name} is {value}. Give a finite number.")
    return np.array([[parameters[name] for name in known]])


def _from_zarr(arguments: argparse.Namespace, card: Card) -> MapSet:
    """Maps of a zarr array as a map set with the card's geometry."""
    from higan.errors import MapSetError
    from higan.painting.zarr_array import open_maps

    if len(card.inputs) != 1:
        raise MapSetError(f"{card.name} takes {len(card.inputs)} fields: give them as a map set, not as a zarr array.")
    return _of_array(open_maps(arguments.input, card.ndim), arguments, card)


def _map_set(
    card: Card, described: FieldCard, array: np.ndarray, parameters: np.ndarray, path: Path | None = None
) -> MapSet:
    """Maps with the card's geometry and one set of parameters for all, (1, n_par), or one a map, (n, n_par)."""
    import numpy as np

    from higan.mapset import Field, Geometry, MapSet, Parameter

    return MapSet(
        {described.field: Field(array, described.units, described.long_name)},
        parameters,
        [Parameter(p.name, p.units, p.lower, p.upper) for p in card.parameters],
        np.arange(array.shape[0]) % len(parameters),
        Geometry(
            kind=card.geometry,
            ndim=card.ndim,
            periodic=card.periodic,
            cell_size=card.cell_size,
            cell_size_units=card.length_units,
            thickness=card.thickness,
            redshift=card.redshift,
        ),
        path=path,
    )
