import pytest

from higan.errors import MapSetError
from higan.sources import open_source, sources
from tests.test_mapset import example


def test_map_set_by_path_and_by_table(tmp_path):
    path = example().save(tmp_path / "maps.h5")
    assert len(open_source(path)) == len(open_source(str(path))) == len(open_source({"path": path})) == 12
    assert {"mapset", "camels"} <= set(sources())


def test_table_without_a_path():
    with pytest.raises(MapSetError, match="missing a required argument: 'path'"):
        open_source({"kind": "mapset"})
