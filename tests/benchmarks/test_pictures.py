from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("playwright", reason="Playwright is not installed; it is in the extra dev")
from benchmarks.pictures import save


def test_a_picture_keeps_the_colors_of_single_markers(tmp_path: Path) -> None:
    picture = Image.radial_gradient("L").convert("RGB")
    markers = {(5, 5): (213, 94, 0), (50, 50): (162, 70, 127), (90, 20): (0, 135, 95), (20, 90): (245, 247, 249)}
    picture.paste("white", (128, 0, 256, 256))
    for (x, y), color in markers.items():
        picture.paste(color, (x, y, x + 8, y + 8))
    content = io.BytesIO()
    picture.save(content, "png")
    save(content.getvalue(), tmp_path / "small.png")
    kept = Image.open(tmp_path / "small.png").convert("RGB")
    assert kept.getpixel((200, 200)) == (255, 255, 255)
    for (x, y), color in markers.items():
        found = kept.getpixel((x + 4, y + 4))
        assert isinstance(found, tuple)
        assert max(abs(a - b) for a, b in zip(found, color, strict=True)) <= 7
