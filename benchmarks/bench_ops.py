"""Every operator beside its peers: ``pytest benchmarks/bench_ops.py`` (``-k nms`` for some, ``--threads 2``)."""

from benchmarks.rows.boxes import *  # noqa: F403
from benchmarks.rows.heatmaps import *  # noqa: F403
from benchmarks.rows.regions import *  # noqa: F403
from benchmarks.rows.suppression import *  # noqa: F403
