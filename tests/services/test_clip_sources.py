"""The media folder gives its own videos and no other path."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.clip_sources import media_files
from services.errors import InputError


def test_links_that_lead_out_and_other_files_are_left_out(tmp_path: Path) -> None:
    outside = tmp_path / "private.mp4"
    outside.write_bytes(b"x")
    media = tmp_path / "media"
    (media / "deep").mkdir(parents=True)
    for name in ("b.MP4", "deep/a.mkv", "notes.txt"):
        (media / name).write_bytes(b"x")
    (media / "link.mp4").symlink_to(outside)
    (media / "inside.mp4").symlink_to(media / "b.MP4")
    assert [path.relative_to(media.resolve()).as_posix() for path in media_files(media)] == [
        "b.MP4",
        "deep/a.mkv",
        "inside.mp4",
    ]


def test_no_folder_is_no_files_and_a_missing_one_is_one_sentence(tmp_path: Path) -> None:
    assert media_files(None) == []
    with pytest.raises(InputError, match="HERDLENS_MEDIA"):
        media_files(tmp_path / "gone")
