"""Classifier two-sample test: can a network that is trained to tell generated maps from true ones do it?

It has the discriminator's architecture, is trained until it gets no better, and judges maps of simulations that it
never saw. Half of its answers are right where generated maps cannot be told from true ones, or where it has not learnt
to see what differs: beside it a regression on P(k) and moments judges the same maps.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.adversarial.batches import Symmetry
from higan.errors import MapSetError
from higan.mapset import MapSet
from higan.photometry import flux, observe
from higan.progress import progress
from higan.recipe import ObservationConfig
from higan.validation.recovery import power_and_moments, quadratic_ridge, summaries

if TYPE_CHECKING:
    import keras

    from higan.emulator import Emulator

SHARES = (
    0.6,
    0.75,
)  # of the simulations: to train on, and up to the second to choose the weights by; the rest is judged
FEWEST = 8  # simulations
PATIENCE = 2000  # steps without a better loss, after which the classifier has converged; of few maps, many epochs
RESAMPLES = 1000
REGRESSION_BINS = 32


@dataclasses.dataclass(frozen=True)
class Classification:
    """What a classifier could tell; made by :func:`classify`.

    Parameters
    ----------
    accuracy : float
        Share of right answers, of true and generated maps together: 0.5 where it cannot tell.
    low, high : float
        Ends of the central 95 % of the bootstrap over simulations.
    regression : float
        Share of right answers of a quadratic regression on ln P(k), mean, standard deviation and skewness of the maps
        as the classifier sees them (:func:`higan.validation.recovery.quadratic_ridge`), fitted to the same maps.
    maps : int
        Judged, true and generated.
    epochs : int
        That it was trained for.
    """

    accuracy: float
    low: float
    high: float
    regression: float
    maps: int
    epochs: int


def classify(
    emulator: Emulator,
    generated: np.ndarray,
    truth: MapSet,
    rows: np.ndarray,
    *,
    seed: int = 1,
    epochs: int = 500,
    batch_size: int = 32,
    learning_rate: float = 5e-4,
) -> Classification:
    """Train a classifier on generated and true maps of the same conditions, and count its right answers on others.

    Parameters
    ----------
    emulator : Emulator
        That painted `generated`: its card says what a discriminator sees, how it is scaled, which symmetries hold, and
        whether both are observed by a telescope first, whose noise is another one each time a map is looked at.
    generated : ndarray, shape (n, *shape)
        Of its first output, in physical units.
    truth : MapSet
    rows : ndarray of int, shape (n,)
        Of the truth, one for each generated map.
    seed : int
        Of weights, batches and the parting of the simulations.
    epochs : int
        At most.
    batch_size : int
        Pairs of a true and a generated map.
    learning_rate : float

    Returns
    -------
    Classification

    Raises
    ------
    MapSetError
        If there are fewer than eight simulations.

    References
    ----------
    Lopez-Paz & Oquab 2017, ICLR, 1610.06545, section 3.

    Examples
    --------
    >>> maps = from_emulator(emulator, truth, seed=1).maps(rows)  # doctest: +SKIP
    >>> classify(emulator, maps, truth, rows).accuracy  # doctest: +SKIP
    0.61
    """
    import keras

    simulations, place = np.unique(truth.simulation[rows], return_inverse=True)
    n = len(simulations)
    if n < FEWEST:
        raise MapSetError(
            f"{n} simulations are too few to train a classifier on some and judge others: give {FEWEST} or more."
        )
    rng = np.random.default_rng(seed)
    share = rng.permutation(n)[place] / n
    training, choosing, judged = (
        np.flatnonzero((low <= share) & (share < high)) for low, high in ((0, SHARES[0]), SHARES, (SHARES[1], 1))
    )
    patience = math.ceil(PATIENCE * batch_size / len(training))
    pairs = _Pairs(emulator, generated, truth, rows)
    model = _classifier(emulator, seed)
    model.compile(keras.optimizers.Adam(learning_rate), keras.losses.BinaryCrossentropy(from_logits=True))
    with progress("training a classifier", epochs, unit="epochs") as advance:
        history = model.fit(
            _augmented(pairs, training, batch_size, seed),
            validation_data=pairs(choosing),
            epochs=epochs,
            shuffle=False,  # it is drawn anew each epoch
            verbose=0,
            callbacks=[
                keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True),
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda _, losses: advance(1, f"loss {losses['loss']:.3f}, {losses['val_loss']:.3f}")
                ),
            ],
        )
    inputs, labels = pairs(judged)
    right = ((model.predict(inputs, verbose=0)[:, 0] > 0) == (labels > 0.5)).reshape(2, -1).mean(axis=0)
    groups = np.unique(place[judged], return_inverse=True)[1]
    sums, sizes = np.bincount(groups, right), np.bincount(groups)
    draws = rng.integers(len(sizes), size=(RESAMPLES, len(sizes)))
    low, high = np.percentile(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), (2.5, 97.5))
    told = _regression(pairs, np.concatenate([training, choosing]), judged, truth)
    return Classification(float(right.mean()), float(low), float(high), told, 2 * len(right), len(history.epoch))


def _regression(pairs: _Pairs, fitted: np.ndarray, judged: np.ndarray, truth: MapSet) -> float:
    """Share of right answers on `judged` of a regression fitted to `fitted`."""
    measured, labels = [], []
    for index in (fitted, judged):
        inputs, which = pairs(index)
        maps = inputs[0][..., 0]
        measured.append(power_and_moments(maps, truth.cell_size, truth.geometry.window, REGRESSION_BINS))
        labels.append(which)
    regression = quadratic_ridge(summaries(measured[0], measured[0]), labels[0][:, None])
    answers = regression(summaries(measured[1], measured[0]))[:, 0] > 0.5
    return float((answers == (labels[1] > 0.5)).mean())


class _Pairs:
    """True and generated maps as the discriminator of a training sees them."""

    def __init__(self, emulator: Emulator, generated: np.ndarray, truth: MapSet, rows: np.ndarray):
        card, painter = emulator.card, emulator.painter
        observation = ObservationConfig.model_validate(card.recipe.get("observation", {}))
        theta = truth.parameters[truth.simulation[rows]]
        columns = [truth.parameter_names.index(p.name) for p in card.parameters]
        self.unit = np.ones(len(rows), np.float32)
        if card.magnitude:
            self.unit = flux(theta[:, truth.parameter_names.index(card.magnitude)]).astype(np.float32)
        self.noise, self.scaling = observation.noise, painter.outputs[0]
        maps = [truth.read(card.outputs[0].field, rows), generated]
        if observation.psf is not None:
            maps = [observe(values) for values in maps]
        self.maps = [values[..., None] for values in maps]
        fields = [s.forward(truth.read(i.field, rows)) for i, s in zip(card.inputs, painter.inputs, strict=True)]
        self.fields = np.stack(fields, axis=-1).astype(np.float32) if fields else None
        self.parameters = painter.scale_parameters(theta[:, columns]).astype(np.float32) if columns else None
        self.symmetries = tuple(card.recipe.get("data", {}).get("symmetries", ()))

    def __call__(self, index: np.ndarray, rng: np.random.Generator | None = None) -> tuple[list[np.ndarray], Any]:
        """Inputs, the true maps before the generated ones, and labels: 1 for true; moved at random where `rng` is."""
        sky = np.random.default_rng(0) if rng is None else rng
        stacks = [self._scaled(values[index], index, sky) for values in self.maps]
        stacks += [] if self.fields is None else [self.fields[index]]
        if rng is not None:
            moves = [Symmetry.draw(rng, stacks[0].shape[1:-1], self.symmetries) for _ in index]
            stacks = [_moved(values, moves) for values in stacks]
        inputs = [np.concatenate(stacks[:2])]
        for condition in (*stacks[2:], *([] if self.parameters is None else [self.parameters[index]])):
            inputs.append(np.concatenate([condition, condition]))
        return inputs, np.repeat(np.array([1.0, 0.0], np.float32), len(index))

    def _scaled(self, maps: np.ndarray, index: np.ndarray, sky: np.random.Generator) -> np.ndarray:
        if self.noise:
            maps = maps + self.noise * sky.standard_normal(maps.shape, dtype=np.float32)
        unit = self.unit[index].reshape(-1, *(1,) * (maps.ndim - 1))
        return np.asarray(self.scaling.forward(maps / unit), dtype=np.float32)


def _moved(values: np.ndarray, moves: Any) -> np.ndarray:
    """Each map (*shape, channels) moved, all of its channels alike."""
    return np.stack(
        [
            np.stack([move(one[..., i]) for i in range(one.shape[-1])], axis=-1)
            for one, move in zip(values, moves, strict=True)
        ]
    )


def _classifier(emulator: Emulator, seed: int) -> keras.Model:
    """The discriminator of the card's recipe, its logits averaged over patches and resolutions."""
    import keras

    from higan.networks.config import DiscriminatorConfig
    from higan.networks.discriminator import build_discriminator

    card = emulator.card
    network = build_discriminator(
        DiscriminatorConfig.model_validate(card.recipe.get("discriminator", {})),
        ndim=card.ndim,
        n_inputs=len(card.inputs),
        n_outputs=1,
        n_parameters=len(card.parameters),
        seed=seed,
        centred=card.network.centred,
    )
    axes = tuple(range(1, card.ndim + 1))
    means = [keras.ops.mean(logits, axis=axes) for logits in network.outputs]
    return keras.Model(network.inputs, means[0] if len(means) == 1 else keras.layers.Average()(means))


def _augmented(pairs: _Pairs, index: np.ndarray, batch_size: int, seed: int) -> Any:
    """Shuffled, moved batches for Keras."""
    import keras

    class Batches(keras.utils.PyDataset):
        epoch = 0

        @property
        def num_batches(self) -> int:
            return -(-len(index) // batch_size)

        def __getitem__(self, number: int) -> tuple[Any, Any]:
            order = np.random.default_rng([seed, self.epoch]).permutation(index)
            some = order[number * batch_size : (number + 1) * batch_size]
            inputs, labels = pairs(some, np.random.default_rng([seed, self.epoch, number]))
            return tuple(inputs), labels

        def on_epoch_end(self) -> None:
            self.epoch += 1

    return Batches()
