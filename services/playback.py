"""Files made of a clip: the proxy that a browser plays, and the cut that training looks at."""

from __future__ import annotations

import threading
from pathlib import Path

from services import video
from services.schema import Window
from services.settings import Profile
from services.training_set import TrainingClip


class Playback:
    """``folder`` holds the proxies, by content digest. Errors: ClipError, InputError, ResourceError."""

    def __init__(self, reader: video.VideoReader, chosen: Profile, folder: Path) -> None:
        self._reader = reader
        self._profile = chosen
        self._folder = folder

    def playable(self, clip_path: str, window: Window | None) -> tuple[Path, float]:
        """A file that a browser plays, and the second of the clip at which it begins: the clip itself, or its H.264
        proxy, made once and kept by content digest. Of a recording too long to be re-coded whole the proxy is
        ``window`` (None: the window with most motion)."""
        source = Path(clip_path)
        digest = video.file_digest(str(source))
        if (self._folder / f"{digest}.mp4").exists():
            return self._folder / f"{digest}.mp4", 0.0
        clip, _ = self._reader.open(str(source), self._profile.sampling, window, threading.Event())
        if video.plays_in_browser(clip):
            return source, 0.0
        span = video.shown_span(clip)
        whole = span.start_s == 0.0 and span.end_s >= clip.duration_s
        proxy = self._folder / (f"{digest}.mp4" if whole else f"{digest}_{span.start_s:.3f}_{span.end_s:.3f}.mp4")
        if not proxy.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            video.display_proxy(str(source), clip, str(proxy), span=span)
        return proxy, span.start_s

    def cut(self, clip: TrainingClip, target: Path) -> bool:
        """Write the span that ``clip``'s label speaks of to ``target``, where its file is longer than training, which
        takes a file's default window, would look at; say whether that was needed."""
        if clip.window is None:
            return False
        opened, _ = self._reader.open(str(clip.path), self._profile.sampling, clip.window, threading.Event())
        if opened.duration_s <= self._profile.window_s:
            return False
        video.display_proxy(str(clip.path), opened, str(target), span=opened.window)
        return True
