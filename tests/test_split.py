import numpy as np
import pytest

from higan.errors import MapSetError
from higan.split import split
from tests.test_mapset import example


def test_the_file_says(tmp_path):
    maps = example(n_sim=6, per_sim=2)
    parts = split(maps, fractions=(0.5, 0.25, 0.25), seed=5)
    assert (parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()) == ([0, 1, 2, 3], [4], [5])


@pytest.mark.parametrize("n_sim", [2, 3, 5, 10, 57])
def test_drawn(n_sim):
    maps = example(n_sim=n_sim, extra={})
    parts = split(maps, seed=1)
    every = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(every) == list(range(n_sim))
    assert len(parts.train) >= 1 and len(parts.validation) >= 1 and (len(parts.test) >= 1) == (n_sim > 2)
    again = split(maps, seed=1)
    assert all(np.array_equal(getattr(parts, name), getattr(again, name)) for name in ("train", "validation", "test"))
    if n_sim > 10:
        assert len(parts.train) == 45 and len(parts.validation) == 6
        assert not np.array_equal(split(maps, seed=2).train, parts.train)


def test_maps_of_one_simulation_stay_together():
    maps = example(n_sim=10, per_sim=7, extra={})
    parts = split(maps)
    rows = [set(maps.rows_of(getattr(parts, name))) for name in ("train", "validation", "test")]
    assert sum(map(len, rows)) == 70 and not rows[0] & rows[1] and not rows[1] & rows[2]
    for chosen in rows:
        assert len(chosen) % 7 == 0


def test_validation_is_taken_from_training_only():
    maps = example(n_sim=10, extra={"split": np.array(["train"] * 8 + ["test"] * 2)})
    parts = split(maps)
    assert len(parts.train) == 7 and len(parts.validation) == 1 and parts.test.tolist() == [8, 9]


def test_simulations_without_maps_do_not_count():
    maps = example(n_sim=10, extra={}).select(np.arange(9))
    parts = split(maps)
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test])) == [0, 1, 2]


@pytest.mark.parametrize(
    ("maps", "fractions", "message"),
    [
        (example(n_sim=1, extra={}), (0.8, 0.1, 0.1), "of 1, 0 would train and 1 validate"),
        (
            example(n_sim=3, extra={"split": np.array(["test"] * 3)}),
            (0.8, 0.1, 0.1),
            "not enough simulations",
        ),
        (
            example(n_sim=3, extra={"split": np.array(["train", "test", "test"])}),
            (0.8, 0.1, 0.1),
            "0 validate",
        ),
        (
            example(n_sim=3, extra={"split": np.array(["train", "val", "test"])}),
            (0.8, 0.1, 0.1),
            "says 'val'",
        ),
        (example(extra={}), (0.8, 0.1), "three shares"),
        (example(extra={}), (0.8, 0.1, 0.2), "sum to 1"),
        (example(extra={}), (1.2, -0.1, -0.1), "three shares"),
    ],
)
def test_what_cannot_be_split(maps, fractions, message):
    with pytest.raises(MapSetError, match=message):
        split(maps, fractions)
