"""Writes the contact sheet of the docs: a row per clip, four moments each.

python -m training.demo.contact_sheet docs/renderer.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.demo.draw import draw_frames
from training.demo.plan import plan_clip

# Seeds whose camera shows the act well; viewpoints and light vary from row to row.
ROWS: tuple[tuple[str, int, str, str], ...] = (
    ("full", 520, "train", "first"), ("brief", 301, "train", "first"), ("failed", 522, "train", "first"),
    ("hidden", 523, "train", "first"), ("chin_resting", 526, "train", "first"), ("sniffing", 604, "train", "first"),
    ("passing_behind", 305, "train", "first"), ("following", 401, "new", "first"),
    ("lying_down", 202, "train", "first"),
    ("front_raised", 525, "train", "first"), ("full", 403, "new", "first"), ("sniffing", 401, "train", "second"),
)  # fmt: skip
WIDTH, HEIGHT, MOMENTS = 192, 110, 4


def sheet() -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    rows = []
    for kind, seed, viewpoints, style in ROWS:
        plan = plan_clip(seed, kind=kind, viewpoints=viewpoints, style=style)  # type: ignore[arg-type]
        times = np.linspace(max(0.0, plan.act.start_s - 0.6), min(plan.act.end_s + 0.4, plan.duration_s), MOMENTS)
        row = np.ascontiguousarray(np.concatenate(list(draw_frames(plan, times, width=WIDTH, height=HEIGHT)), 1))
        words = [kind.replace("_", " "), plan.light, plan.camera.name.replace("_", " ")]
        words += ["new viewpoint"] * (viewpoints == "new") + ["second style"] * (style == "second")
        cv2.putText(row, ", ".join(words), (5, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 240, 90), 1, cv2.LINE_AA)
        rows.append(row)
    return np.concatenate(rows)


def main(arguments: list[str]) -> int:
    """Writes the sheet to the file that is named."""
    if len(arguments) != 1 or not arguments[0].endswith(".png") or not Path(arguments[0]).parent.is_dir():
        print("Name the one file to write, a .png in a folder that exists, such as docs/renderer.png.", file=sys.stderr)
        return 2
    picture = sheet()
    # A palette and a soft filter keep the file small; the sheet is for eyes only.
    smooth = cv2.bilateralFilter(picture, 5, 22, 3)
    Image.fromarray(smooth).quantize(256, kmeans=4, dither=Image.Dither.NONE).save(arguments[0], optimize=True)
    print(f"{arguments[0]}: {picture.shape[1]}x{picture.shape[0]}, {Path(arguments[0]).stat().st_size // 1024} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
