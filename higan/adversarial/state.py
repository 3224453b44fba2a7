"""What a training goes on from: weights, moments and averages in one file, whole or as it was before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from higan.adversarial.preparation import find_initial, is_run
from higan.checkpoint import Card, load_card, replace_hdf5
from higan.errors import OutputError, TrainingError

STATE = "state.h5"  # of a run, in its folder
KEPT = "The last good state and checkpoint are kept: lower the learning rate or raise the penalties, and train anew."


def orders(**networks: Any) -> dict[str, str]:
    """Digests of the names of the weights of networks, in the order in which a state holds them."""
    from higan.painting.painter import weight_names

    return {
        name: hashlib.sha256("\n".join(weight_names(network)).encode()).hexdigest()
        for name, network in networks.items()
        if network is not None
    }


def save_state(
    path: Path, state: Any, step: int, best: float, hours: float, order: Mapping[str, str], backend: Any
) -> None:
    arrays = backend.to_host(state)
    check_finite(arrays, step)
    try:
        replace_hdf5(path, arrays, {"step": step, "best": best, "hours": hours, **_attributes(order)})
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}). The last one is kept: make room, and start again."
        ) from error


def load_state(path: Path, like: Any, order: Mapping[str, str], backend: Any) -> tuple[Any, int, float, float]:
    try:
        with h5py.File(path, "r") as file:
            _check_order(file, order)
            state = {name: file[name][()] for name in like}
            scalars = int(file.attrs["step"]), float(file.attrs["best"]), float(file.attrs["hours"])
        for name, array in like.items():
            if state[name].shape != array.shape:
                raise ValueError(f"{name} has another shape")
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read ({error}): the state is damaged. Train anew.") from error
    return backend.to_device(state), *scalars


def _attributes(order: Mapping[str, str]) -> dict[str, str]:
    return {f"{name}_order": digest for name, digest in order.items()}


def _check_order(file: h5py.File, order: Mapping[str, str]) -> None:
    """Refuse weights in another order, which may well have the same shapes."""
    if any(file.attrs.get(name, digest) != digest for name, digest in _attributes(order).items()):
        raise TrainingError(
            f"{file.filename} was written by another version of higan, which orders weights otherwise. Go on with that "
            "version, or train from the run's checkpoint, with training.initial."
        )


def initial_weights(
    initial: Path, card: Card, generator: Any, state: Any, order: Mapping[str, str], backend: Any
) -> Any:
    """`state` with the networks of a run, or with the generator of a checkpoint.

    A discriminator that is not there starts anew. A generator that has more than the one before is given that of the
    checkpoint, of averaged weights.
    """
    folder = find_initial(initial)
    if not is_run(initial):
        return _checkpoint_weights(folder, generator, state, backend)
    if load_card(folder).network == card.network:
        return _run_weights(initial / STATE, ("generator", "discriminator"), state, order, backend)
    state = _checkpoint_weights(folder, generator, state, backend)
    return _run_weights(initial / STATE, ("discriminator",), state, order, backend)


def _run_weights(path: Path, names: tuple[str, ...], state: Any, order: Mapping[str, str], backend: Any) -> Any:
    """`state` with the networks of these names from another run's."""
    new = backend.to_host(state)
    try:
        with h5py.File(path, "r") as file:
            _check_order(file, {name: order[name] for name in names if name in order})
            new |= {name: file[name][()] for name in names if name in file and name in new}
    except (OSError, TypeError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}). Give the folder of a run that has it, or that of its checkpoint."
        ) from error
    if any(new[name].shape != state[name].shape for name in new):
        raise TrainingError(f"{path} holds networks of other shapes. Take its [discriminator], too, into the recipe.")
    return backend.to_device({**new, "average": new["generator"]})


def _checkpoint_weights(folder: Path, generator: Any, state: Any, backend: Any) -> Any:
    """`state` with the generator of a checkpoint.

    What its network lacks starts as in a new one: slopes, gates and noise in the barrier without effect.
    """
    from higan.adversarial.step import joined, parted
    from higan.painting.painter import Painter, weight_names, weights_of

    before = Painter.load(folder).model
    weights = weights_of(before, before.get_weights())
    new = backend.to_host(state)
    arrays = parted(new["generator"], generator)
    for i, name in enumerate(weight_names(generator)):
        if name in weights:
            # Those that the head has for slopes alone are 0, as those of what is new to the network of top-hats.
            values = np.zeros_like(arrays[i])
            values[tuple(slice(n) for n in weights[name].shape)] = weights[name]
            arrays[i] = values
    new["generator"] = joined(arrays)
    return backend.to_device({**new, "average": new["generator"]})


def check_finite(arrays: Mapping[str, Any], step: int) -> None:
    """Refuse weights that the last update has made NaN or infinite, though the losses before it were not."""
    for name in ("generator", "discriminator", "average"):
        if not np.isfinite(arrays.get(name, 0.0)).all():
            raise TrainingError(f"weights ({name}) became NaN or infinite before step {step}. {KEPT}")
