"""Operands × nodes as values: nodes that stand the same are one column."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leptonami.readers.gpuoperands import Link
from leptonami.verdicts.gpustack import StackVerdict
from leptonami.verdicts.operands import Health

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OTHERS", "Column", "columns_of", "counted", "links_frame"]

OTHERS = "differs"  # the state of a cell that stands for nodes which do not stand the same
MOST = 24  # columns that can be told apart
WORST = (Health.BROKEN, Health.WAITING, Health.NOT_DETERMINED, Health.OK, Health.NOT_EXPECTED)


@dataclass(frozen=True, slots=True)
class Column:
    """Nodes that stand the same, and how: a state for each row."""

    nodes: tuple[str, ...]
    states: tuple[str, ...]


def columns_of(frame: pd.DataFrame) -> list[Column]:
    """Put the nodes of a matrix together that stand the same: what is broken first, then the larger group.

    Of more than `MOST` groups the smallest are one column, with `OTHERS` where they differ.
    """
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in frame.columns:
        groups[tuple(str(each) for each in frame[name])].append(str(name))
    found = [Column(tuple(sorted(nodes)), states) for states, nodes in groups.items()]
    found.sort(key=lambda each: (rank(each), -len(each.nodes), each.nodes[0]))
    if len(found) <= MOST:
        return found
    kept = sorted(found, key=lambda each: -len(each.nodes))[: MOST - 1]
    rest = [each for each in found if each not in kept]
    states = tuple(
        cell[0] if len(set(cell)) == 1 else OTHERS for cell in zip(*(each.states for each in rest), strict=True)
    )
    return [*(each for each in found if each in kept), Column(tuple(n for each in rest for n in each.nodes), states)]


def rank(column: Column) -> int:
    """Give how bad a column is: the worst first."""
    return min((WORST.index(Health(each)) for each in column.states if each), default=len(WORST))


def counted(frame: pd.DataFrame) -> tuple[int, list[tuple[int, tuple[str, ...], tuple[str, ...]]]]:
    """Count the nodes on which all is well; of the others, how many have which rows broken and which waiting."""
    whole = 0
    groups: Counter[tuple[tuple[str, ...], tuple[str, ...]]] = Counter()
    for name in frame.columns:
        states = {str(row): str(state) for row, state in frame[name].items()}
        broken = tuple(row for row, state in states.items() if state == Health.BROKEN)
        waiting = tuple(row for row, state in states.items() if state == Health.WAITING)
        if broken or waiting:
            groups[broken, waiting] += 1
        else:
            whole += 1
    return whole, [(number, broken, waiting) for (broken, waiting), number in groups.most_common()]


def links_frame(verdict: StackVerdict) -> pd.DataFrame:
    """Give the links of the chain × nodes: a row for each link, a column for each node, the state in words."""
    import pandas as pd

    columns = {each.node or "(not named)": [str(link.state) for link in each.links] for each in verdict.nodes}
    return pd.DataFrame(columns, index=[str(each) for each in Link], dtype=object)
