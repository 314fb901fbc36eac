"""The result of a search: its trials, the best of them, and the Pareto front."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from structmat._util.files import finite, write_text
from structmat._util.text_table import (
    Paragraph,
    Printed,
    Table,
    cell,
    counted,
    in_html,
    left,
    spaced,
)
from structmat.errors import FileError, StructmatError
from structmat.networks.network import Network
from structmat.search.study.proposals import network_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 10  # rows of the printed table
_LONGEST = 48  # characters of the name of a network in the table
_NO_VALUE = "–"


@dataclass(frozen=True)
class Goal:
    """The name of an objective, and whether it is minimised or maximised."""

    name: str
    direction: str

    @property
    def sign(self) -> int:
        """1 for an objective that is minimised, −1 for one that is maximised."""
        return 1 if self.direction == "minimize" else -1


@dataclass(frozen=True)
class Trial:
    """One network that a search proposed, and what was measured.

    Attributes
    ----------
    number : int
        The number of the proposal.
    state : str
        "feasible"; "infeasible" if it violates a requirement; or "failed".
    width : int
    topology : str or None
        The spec of the network, or its JSON text; None if making it failed.
    values : dict from name to float
        The values of the objectives; empty unless the network is feasible.
    violation : float
        The sum of the violations of the requirements. A requirement that was not measured, because
        the network violates a cheaper one, counts as 1.
    source : str
        "start", "family", "free", "edit", or the name of the user's function.
    parent : int or None
        The number of the trial whose network was edited.
    same_as : int or None
        The number of an earlier trial with an equivalent network, from which the values are taken.
    message : str
        Why the trial failed.
    """

    number: int
    state: str
    width: int
    topology: str | None
    values: dict[str, float]
    violation: float
    source: str
    parent: int | None
    same_as: int | None
    message: str

    @property
    def network(self) -> Network:
        """The network.

        Raises
        ------
        StructmatError
            If making it failed.
        """
        if self.topology is None:
            raise StructmatError(f"trial {self.number} has no network: {self.message}")
        return network_of(self.topology, self.width)

    @property
    def spec(self) -> str | None:
        """The spec of the network, if it has one."""
        return None if self.topology is None or self.topology.startswith("{") else self.topology

    @property
    def title(self) -> str:
        """The spec, or the size of the network."""
        if self.spec is not None:
            return self.spec
        if self.topology is None:
            return "no network"
        net = self.network
        switches = counted(sum(bank.count for bank in net.banks), "switch", "switches")
        return f"{switches} in {counted(net.depth, 'stage')}"

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as values for JSON."""
        return {
            "trial": self.number,
            "network": self.spec,
            "source": self.source,
            "parent": self.parent,
            "values": finite(self.values),
        }


@dataclass(frozen=True)
class SearchResult(Printed):
    """The trials of a search, which are printed as a table of the best networks.

    Attributes
    ----------
    width : int
    goals : tuple of Goal
        The objectives: their names and directions.
    requirements : tuple of str
    trials : tuple of Trial
        The finished trials, in order of number.
    running : int
        The number of trials that other processes are still running.
    interrupted : bool
        Whether the search was interrupted before the requested number of trials.
    """

    width: int
    goals: tuple[Goal, ...]
    requirements: tuple[str, ...]
    trials: tuple[Trial, ...]
    running: int = 0
    interrupted: bool = False

    @cached_property
    def ranking(self) -> tuple[Trial, ...]:
        """The feasible trials with different networks, the best first.

        For several objectives, those on the Pareto front come first, in order of the first
        objective.
        """
        found = [t for t in self.trials if t.state == "feasible" and t.same_as is None]
        costs = self._costs(found)
        order = np.lexsort([*reversed(costs.T), _layers(costs)])  # the last key counts first
        return tuple(found[k] for k in order)

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """The Pareto front, in order of the first objective.

        A trial is on the front if no other trial is at least as good in every objective and better
        in one. Of several networks with equal values, all or none are on it.
        """
        costs = self._costs(self.ranking)
        return tuple(
            trial for trial, layer in zip(self.ranking, _layers(costs), strict=True) if layer == 0
        )

    @property
    def best(self) -> Trial:
        """The best trial; for several objectives, the best of the front by the first objective.

        Raises
        ------
        StructmatError
            If no network satisfies the requirements; the message states how close the nearest is.
        """
        if self.ranking:
            return self.ranking[0]
        raise StructmatError(self._shortfall())

    def save(self, path: str | Path) -> Path:
        """Save the best network as JSON, which `structmat.network` and all commands accept.

        Raises
        ------
        StructmatError
            If no network satisfies the requirements.
        FileError
            If the file cannot be written.
        """
        text = self.best.network.to_json() + "\n"
        try:
            return write_text(Path(path), text)
        except OSError as error:
            raise FileError(f"{path}: cannot be written ({error.strerror})") from None

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the Pareto front of the first two objectives, or the progress for a single one.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Raises
        ------
        StructmatError
            If no network satisfies the requirements.
        """
        from structmat.search.study.pictures import drawn  # deferred: it needs matplotlib

        if not self.ranking:
            raise StructmatError(self._shortfall())
        return drawn(self, ax)

    def to_dict(self) -> dict[str, Any]:
        """Return the table of the best networks as values for JSON."""
        return {
            "width": self.width,
            "objectives": [{"name": g.name, "direction": g.direction} for g in self.goals],
            "requirements": list(self.requirements),
            "trials": self.counts | {"running": self.running},
            "front": [trial.to_dict() for trial in self.front],
        }

    @property
    def counts(self) -> dict[str, int]:
        """The number of finished trials, and of those with each outcome."""
        states = [trial.state for trial in self.trials]
        return {
            "finished": len(states),
            "feasible": states.count("feasible"),
            "infeasible": states.count("infeasible"),
            "equivalent": sum(trial.same_as is not None for trial in self.trials),
            "failed": states.count("failed"),
        }

    def _parts(self) -> list[object]:
        rows = self._rows()
        table = [Table(self._head(), rows, left=(1, 2))] if rows else []
        return spaced([*table, Paragraph(self._summary())])

    def _repr_html_(self) -> str:
        head = "".join(cell("th", title) for title in self._head())
        rows = [
            "".join(
                left("td", text) if k in (1, 2) else cell("td", text) for k, text in enumerate(row)
            )
            for row in self._rows()
        ]
        return f"<div>{in_html([head, *rows])}\n<p>{html.escape(self._summary())}</p></div>"

    def _head(self) -> tuple[str, ...]:
        return ("trial", "network", "source", *(goal.name for goal in self.goals))

    def _rows(self) -> list[tuple[str, ...]]:
        shown = self.ranking[:_SHOWN] if len(self.goals) == 1 else self.front[:_SHOWN]
        return [
            (
                str(trial.number),
                _cut(trial.title),
                trial.source if trial.parent is None else f"{trial.source} of {trial.parent}",
                *(f"{trial.values[goal.name]:.6g}" for goal in self.goals),
            )
            for trial in shown
        ]

    def _summary(self) -> str:
        counts = self.counts
        parts = [
            f"{counts[state]:,} {state}"
            for state in ("infeasible", "equivalent", "failed")
            if counts[state]
        ]
        text = counted(counts["finished"], "trial") + (f" ({', '.join(parts)})" if parts else "")
        if self.running:
            text += f", {self.running:,} running"
        if self.interrupted:
            text += ", interrupted"
        if not self.trials:
            return f"{text}."
        if not self.ranking:
            shortfall = self._shortfall()
            return f"{text}. {shortfall[0].upper()}{shortfall[1:]}."
        if len(self.goals) > 1:
            text += f"; {counted(len(self.front), 'network')} on the Pareto front"
        return f"{text}."

    def _shortfall(self) -> str:
        """Return why there is no best network."""
        failed = [trial.message for trial in self.trials if trial.state == "failed"]
        near = [trial for trial in self.trials if trial.state == "infeasible"]
        if not near:
            why = f"; the first failed with: {failed[0]}" if failed else ""
            return f"no trial has measured a network{why}"
        nearest = min(near, key=lambda trial: trial.violation)
        return (
            f"no network of {counted(len(self.trials), 'trial')} satisfies"
            f" {', '.join(self.requirements)}; the nearest is that of trial {nearest.number}, whose"
            f" violations sum to {nearest.violation:.3g}; run more trials, or relax a requirement"
        )

    def _costs(self, trials: Sequence[Trial]) -> npt.NDArray[np.float64]:
        """Return the values of the objectives, with signs such that smaller values are better."""
        rows = [[goal.sign * trial.values[goal.name] for goal in self.goals] for trial in trials]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.goals))


def _layers(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return 0 for each row that no other row dominates, and 1 for the others."""
    if costs.shape[1] == 1:
        worse = costs[:, 0] > costs[:, 0].min(initial=np.inf)
    else:
        worse = np.array(
            [((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any() for row in costs],
            dtype=bool,
        )
    return np.asarray(worse, dtype=np.int64)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
