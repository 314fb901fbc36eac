"""Check that our method passes where the reference does, except for listed differences."""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LISTED = Path(__file__).with_name("differences.toml")


@dataclass(frozen=True)
class Result:
    """The outcome of a test, and the first line of the reason."""

    outcome: str  # "passed", "failed" or "skipped"
    why: str = ""


@dataclass(frozen=True)
class Difference:
    """Tests that our method is not intended to pass, and the reason."""

    tests: str  # the name of a test; * stands for any text
    reason: str
    sometimes: bool = False  # whether it depends on rounding, so that it need not occur

    def fits(self, name: str) -> bool:
        """Return whether a test is one of these."""
        return re.fullmatch(re.escape(self.tests).replace(r"\*", ".*"), name) is not None


def listed(path: Path = LISTED) -> list[Difference]:
    """Return the intended differences that a file lists."""
    tables = tomllib.loads(path.read_text("utf-8"))["difference"]
    return [Difference(**table) for table in tables]


def reference_of(name: str) -> str:
    """Return the name that a case of our method has for the reference.

    Examples
    --------
    >>> reference_of("test_custom_models.py::test_merge[3-MLP 1-OFTConfig~cayley-True]")
    'test_custom_models.py::test_merge[3-MLP 1-OFTConfig-True]'
    """
    return re.sub(r"~\w+", "", name)


@dataclass
class Comparison:
    """The results of all tests with both methods.

    Attributes
    ----------
    counts : mapping from a file to how often each pair of outcomes came, the reference's first
    unexpected : list of (str, Result)
        Cases that the reference passes and ours does not, and that no difference lists.
    used : mapping from a difference to the number of cases that it explains
    stale : list of Difference
        Those that explain none, though they should.
    """

    counts: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    unexpected: list[tuple[str, Result]] = field(default_factory=list)
    used: Counter[Difference] = field(default_factory=Counter)
    stale: list[Difference] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is unexpected, and every difference still occurs."""
        return bool(self.counts) and not self.unexpected and not self.stale


def compare(
    reference: Mapping[str, Result], ours: Mapping[str, Result], differences: list[Difference]
) -> Comparison:
    """Compare the results of our method with those of the reference.

    Parameters
    ----------
    reference, ours : mapping from the name of a test to its result
        A case of ours whose reference was not run counts as one that the reference passed.
    differences : list of Difference
    """
    made = Comparison()
    for name, result in ours.items():
        beside = reference.get(reference_of(name), Result("passed"))
        file = name.partition("::")[0]
        made.counts.setdefault(file, Counter())[beside.outcome, result.outcome] += 1
        if beside.outcome != "passed" or result.outcome == "passed":
            continue
        reasons = [difference for difference in differences if difference.fits(name)]
        made.used.update(reasons)
        if not reasons:
            made.unexpected.append((name, result))
    made.stale = [d for d in differences if not (d.sometimes or d in made.used)]
    return made


def summary(comparison: Comparison, reference: Mapping[str, Result]) -> str:
    """Return the comparison as text: a line per file, the differences and unexpected results."""
    outcomes = ("passed", "failed", "skipped")
    lines = [f"{'':36s}  reference (OFT)       structmat", f"{'':36s}" + "  pass fail skip" * 2]
    total: Counter[tuple[str, str]] = Counter()
    for file, counts in sorted(comparison.counts.items()):
        beside = Counter(r.outcome for name, r in reference.items() if name.startswith(file))
        own: Counter[str] = Counter()
        for (_, outcome), count in counts.items():
            own[outcome] += count
        total += Counter({("reference", outcome): beside[outcome] for outcome in outcomes})
        total += Counter({("ours", outcome): own[outcome] for outcome in outcomes})
        lines.append(_line(file, beside, own))
    sides = [Counter({o: total[side, o] for o in outcomes}) for side in ("reference", "ours")]
    lines += [_line("all", *sides), ""]
    for difference, count in comparison.used.items():
        lines.append(f"intended difference, {count} cases: {difference.tests}: {difference.reason}")
    for difference in comparison.stale:
        lines.append(f"STALE: no test needs {difference.tests!r} any more: take it out of the list")
    for name, result in comparison.unexpected:
        lines.append(f"UNEXPECTED: {name} {result.outcome}: {result.why}")
    lines.append(
        "==> Passed wherever the reference passes."
        if comparison.passed
        else f"==> {len(comparison.unexpected)} unexpected, {len(comparison.stale)} stale."
    )
    return "\n".join(lines)


def _line(title: str, *sides: Counter[str]) -> str:
    numbers = ["".join(f"{side[o]:5d}" for o in ("passed", "failed", "skipped")) for side in sides]
    return f"{title:36s}  {'  '.join(numbers)}"
