from __future__ import annotations

from pathlib import Path

import pytest

from results import ResultsError, load


def test_a_tracking_file_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such file"):
        load(tracking_uri=f"sqlite:///{tmp_path / 'none.db'}", experiment="x")
    assert list(tmp_path.iterdir()) == []
