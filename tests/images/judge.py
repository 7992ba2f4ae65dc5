"""Reads every file below a folder and compares the pixels with Pillow's: ``python -m tests.images.judge FOLDER``.

Meant for the test images of Pillow itself, ``Tests/images`` in its source distribution. Prints how many files were
read, refused by :class:`pyrcnn.InputError`, or anything else; exits with 1 if there is anything else: another
exception, a warning, other pixels or another size than recorded, or a file that only one of the two can read.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from pyrcnn import InputError, images

from . import made


def judge(file: Path) -> tuple[str, str]:
    """Return ``read``, ``refused`` or ``other``, and what is to be said about it."""
    wanted = made.by_pillow(file.read_bytes())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = images.read(file)
            (height, width), transposed = images.check(file)
    except InputError as error:
        return ("other" if wanted is not None and _within_limit(wanted) else "refused"), str(error)
    except Exception as error:
        return "other", f"{file}: {type(error).__name__}: {error}"
    if tuple(image.shape[1:]) != ((width, height) if transposed else (height, width)):
        return "other", f"{file}: the recorded size is {height}x{width}, that of the pixels {list(image.shape[1:])}"
    if wanted is not None and not np.array_equal(image.permute(1, 2, 0).numpy(), wanted):
        return "other", f"{file}: the pixels are not Pillow's"
    return "read", ""


def _within_limit(pixels: np.ndarray) -> bool:
    return Image.MAX_IMAGE_PIXELS is None or pixels.shape[0] * pixels.shape[1] <= Image.MAX_IMAGE_PIXELS


def main(folder: Path) -> int:
    counts: Counter[str] = Counter()
    slowest = 0.0
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        start = time.monotonic()
        kind, text = judge(file)
        slowest = max(slowest, time.monotonic() - start)
        counts[kind] += 1
        if kind == "other":
            print(text)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{counts['read']} read, {counts['refused']} refused, {counts['other']} anything else; "
          f"{peak} MB at most, {slowest:.1f} s for the slowest file, with Pillow's own reading")  # fmt: skip
    return 1 if counts["other"] or not counts["read"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
