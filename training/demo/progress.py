"""One line of progress with the time left, for stages that run for minutes."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts steps of ``total``; prints at most every ``every_s`` seconds to standard error."""

    def __init__(self, stage: str, total: int, every_s: float = 15.0) -> None:
        self.stage, self.total, self.every_s = stage, total, every_s
        self.done = 0
        self.started = self.shown = time.monotonic()

    def step(self, note: str = "", count: int = 1) -> None:
        """One more is done; ``note`` (a loss, say) stands at the end of the line."""
        self.done += count
        now = time.monotonic()
        if now - self.shown < self.every_s and self.done < self.total:
            return
        self.shown = now
        spent = now - self.started
        left = spent / self.done * max(0, self.total - self.done)
        print(
            f"{self.stage}: {self.done}/{self.total}, {spent / 60:.1f} min, {left / 60:.1f} min left {note}",
            file=sys.stderr,
            flush=True,
        )
