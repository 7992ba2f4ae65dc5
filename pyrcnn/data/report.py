"""The problems of a data set: where they are and what was done about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..texts import printable

_SHOWN = 20  # problems per action in the printed report; Report.problems holds all


@dataclass(frozen=True)
class Problem:
    """One fault: where it is (``image a.jpg``, ``annotation 17 of a.jpg``), what is wrong, and what was done."""

    where: str
    what: str
    action: str  # "image skipped", "annotation skipped", "box clipped", "noted" …
    count: int = 1  # entries with this fault

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.action}"


@dataclass
class Report:
    """Every problem found in one annotation file. ``bool(report)`` tells whether there is any; ``print`` lists them."""

    source: str
    problems: list[Problem] = field(default_factory=list)
    unreadable: set[int | str] = field(default_factory=set)  # ids of images that could not be decoded later

    def add(self, where: str, what: str, action: str, count: int = 1) -> None:
        """Add one problem. Line breaks, control characters and what no terminal can show are escaped."""
        self.problems.append(Problem(printable(where), printable(what), action, count))

    def brief(self) -> str:
        """Return the first problem and how many more there are, in one line."""
        if not self.problems:
            return "no problem found"
        more = f" (and {len(self.problems) - 1} more problems)" if len(self.problems) > 1 else ""
        return f"{self.problems[0]}{more}"

    def __bool__(self) -> bool:
        return bool(self.problems)

    def __len__(self) -> int:
        return len(self.problems)

    def __str__(self) -> str:
        if not self.problems:
            return f"{self.source}: no problem found"
        counts: Counter[str] = Counter()
        for problem in self.problems:
            counts[problem.action] += problem.count
        lines = [f"{self.source}: " + ", ".join(f"{action}: {count}" for action, count in sorted(counts.items()))]
        for action in sorted(counts):
            some = [p for p in self.problems if p.action == action]
            lines += [f"  {p}" for p in some[:_SHOWN]]
            if len(some) > _SHOWN:
                lines.append(f"  … and {len(some) - _SHOWN} more ({action})")
        return "\n".join(map(printable, lines))
