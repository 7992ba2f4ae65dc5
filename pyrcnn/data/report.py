"""The problems of a data set: where they are and what was done about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..texts import printable

_SHOWN = 20  # problems per action in the printed report
KEPT = 1000  # problems per action in Report.problems; all are counted


@dataclass(frozen=True)
class Problem:
    """One fault of a data set.

    Attributes:
        where: the entry: ``image a.jpg``, ``annotation 17 of a.jpg``.
        what: what is wrong.
        action: what was done: ``image skipped``, ``annotation skipped``, ``box clipped``, ``noted`` …
        count: how many entries have this fault.

    Example:
        >>> print(Problem("annotation 17 of a.jpg", "the box leaves the image", "box clipped"))
        annotation 17 of a.jpg: the box leaves the image; box clipped
    """

    where: str
    what: str
    action: str  # "image skipped", "annotation skipped", "box clipped", "noted" …
    count: int = 1  # entries with this fault

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.action}"


@dataclass
class Report:
    """The problems found in a data set's files. ``bool(report)`` tells whether there are any; ``print`` lists them.

    Attributes:
        source: the files.
        problems: the first thousand problems with each action.
        counts: how many there are in all with each action.
        unreadable: ids of images that could not be decoded later.

    Example:
        >>> report = Report("train.json")
        >>> report.add("image a.jpg", "no such file", "image skipped")
        >>> bool(report), report.counts["image skipped"]
        (True, 1)
    """

    source: str
    problems: list[Problem] = field(default_factory=list)
    unreadable: set[int | str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    _seen: Counter[str] = field(default_factory=Counter, repr=False)  # problems, each of which may count several times

    def add(self, where: str, what: str, action: str, count: int = 1) -> None:
        """Add one problem. Line breaks, control characters and what no terminal can show are escaped."""
        self.counts[action] += count
        self._seen[action] += 1
        if self._seen[action] <= KEPT:
            self.problems.append(Problem(printable(where), printable(what), action, count))

    @classmethod
    def joined(cls, reports: Sequence[Report]) -> Report:
        """Return one report of several."""
        report = cls(", ".join(dict.fromkeys(part.source for part in reports)))
        for part in reports:
            report.problems += part.problems
            report.counts += part.counts
            report._seen += part._seen
        return report

    def brief(self) -> str:
        """Return the first problem and how many more there are, in one line."""
        if not self.problems:
            return "no problem found"
        more = f" (and {len(self) - 1} more problems)" if len(self) > 1 else ""
        return f"{self.problems[0]}{more}"

    def __bool__(self) -> bool:
        return bool(self.problems)

    def __len__(self) -> int:
        return self._seen.total()

    def __str__(self) -> str:
        if not self.problems:
            return f"{self.source}: no problem found"
        lines = [f"{self.source}: " + ", ".join(f"{action}: {n}" for action, n in sorted(self.counts.items()))]
        for action in sorted(self.counts):
            some = [p for p in self.problems if p.action == action][:_SHOWN]
            lines += [f"  {p}" for p in some]
            if self._seen[action] > len(some):
                lines.append(f"  … and {self._seen[action] - len(some)} more ({action})")
        return "\n".join(map(printable, lines))
