"""The engines: leptonami, Python's `re`, polars and DuckDB, each with the whole answer to the question.

polars and DuckDB come twice: as one would write it, with a regular expression for each kind, and as fast as we could
make it, with words instead of expressions. Both use every core that there is; leptonami uses two, `re` one. Libraries
are imported where they are used: each engine runs in a process of its own and pays only for what it needs.
"""

# ruff: noqa: PLC0415 - an engine must not pay for the libraries of another
from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from logbench.question import DECISIONS, KINDS, OTHER, WHICH, WORDS, Answer

__all__ = ["ENGINES", "FLOORS"]

# No byte of a log: what is read as CSV has one column.
NO_SEPARATOR = "\x01"
HEADER = 30  # bytes before `file:line] `
# The logs begin in one year and may end in the next. No year is printed: January to June come after the other months.
NEXT_YEAR = "07"


def leptonami_engine(path: Path) -> Answer:
    """Take leptonami's own pass, which answers more than is asked here: spells, proofs, version, cooldowns."""
    from leptonami.explain.sidebyside import digest_file

    digest = digest_file(path, source=path.name)  # as `leptonami explain autoscaler` reads a plain file
    kinds = {str(kind): count for kind, count in digest.counts.items() if kind in KINDS}
    kinds[OTHER] = digest.lines - sum(kinds.values())
    answer = Answer(digest.lines, kinds)
    phases = set(DECISIONS.values())
    for track in digest.tracks.values():
        if track.status is not None and track.status.phase in phases:
            phase = str(track.status.phase)
            # The reason of a blocked node begins with the kind of the message.
            reason = track.status.reason.partition(": ")[2] if phase == "blocked" else ""
            answer.nodes[track.name.decode()] = (phase, reason, track.line[1:21].decode())
    return answer


def re_engine(path: Path) -> Answer:
    """Read line by line and match one alternation at the message; the group that matched tells the kind."""
    kind_of: dict[int, str] = {}
    alternatives, groups = [], 0
    for kind, pattern in KINDS.items():
        groups += 1
        kind_of[groups] = kind
        alternatives.append(f"({pattern})")
        groups += re.compile(pattern).groups
    match = re.compile("|".join(alternatives).encode()).match
    state_of = {group: DECISIONS.get(kind) for group, kind in kind_of.items()}
    counts = dict.fromkeys(kind_of, 0)
    last: dict[bytes, tuple[int, re.Match[bytes]]] = {}
    others = 0
    with path.open("rb") as stream:
        for line in stream:
            found = match(line, line.find(b"] ", HEADER) + 2)
            if found is None:
                others += 1
                continue
            group = found.lastindex
            counts[group] += 1  # type: ignore[index] # every alternative is a group
            if state_of[group]:  # type: ignore[index]
                last[found[group + 1]] = group, found  # type: ignore[operator, assignment]
    answer = Answer(others + sum(counts.values()), {kind_of[group]: count for group, count in counts.items()})
    answer.kinds[OTHER] = others
    for node, (group, found) in last.items():
        state = DECISIONS[kind_of[group]]
        reason = found[group + 2].decode() if state == "blocked" else ""
        answer.nodes[node.decode()] = (state, reason, found.string[1:21].decode())
    return answer


def collect(rows: Iterable[tuple[str | None, str | None, int, int | str, str]]) -> Answer:
    """Put the answer together from groups: kind, node, how many lines, the last one's place, and the last one."""
    answer = Answer()
    places: dict[str, int | str] = {}
    for kind, node, count, place, line in rows:
        name = kind or OTHER
        answer.lines += count
        answer.kinds[name] = answer.kinds.get(name, 0) + count
        if name in DECISIONS and node and (node not in places or places[node] < place):  # type: ignore[operator]
            places[node] = place
            state = DECISIONS[name]
            reason = ""
            if state == "blocked" and (found := re.search(KINDS[name], line)):
                reason = found[2]
            answer.nodes[node] = (state, reason, line[1:21])
    return answer


def named() -> tuple[str, dict[str, str], list[str]]:
    """Give one expression with a named group for each kind and each node; the kinds' groups; the nodes' groups."""
    kinds, nodes, alternatives = {}, [], []
    for at, (kind, pattern) in enumerate(KINDS.items()):
        written = pattern.replace("(.*)", "")
        if kind in DECISIONS:
            nodes.append(f"n{at}")
            written = written.replace("(", f"(?P<n{at}>", 1)
        kinds[f"k{at}"] = kind
        alternatives.append(f"(?P<k{at}>{written})")
    return rf"\] (?:{'|'.join(alternatives)})", kinds, nodes


def polars_engine(path: Path, *, words: bool = False) -> Answer:
    """One streaming query: kind and node of each line, grouped; the last line of each group by its number."""
    import polars as pl

    line = pl.col("line")
    lines = pl.scan_csv(
        path,
        has_header=False,
        separator=NO_SEPARATOR,
        quote_char=None,
        schema={"line": pl.String},
        row_index_name="place",
    )
    if words:
        kind_of = {word: kind for kind, word in WORDS.items()}
        decisions = [WORDS[kind] for kind in DECISIONS]
        found = lines.with_columns(kind=line.str.extract_many(list(kind_of), leftmost=True).list.first())
        found = found.with_columns(node=pl.when(pl.col("kind").is_in(decisions)).then(line.str.extract(WHICH, 1)))
    else:
        pattern, kinds, nodes = named()
        kind_of = {kind: kind for kind in KINDS}
        found = lines.with_columns(line.str.extract_groups(pattern).alias("found")).unnest("found")
        found = found.with_columns(
            kind=pl.coalesce([pl.when(pl.col(k).is_not_null()).then(pl.lit(kind)) for k, kind in kinds.items()]),
            node=pl.coalesce(nodes),
        )
    table = found.group_by("kind", "node").agg(pl.len(), pl.col("place").max(), line.last()).collect(engine="streaming")
    return collect((kind_of.get(row[0]), *row[1:]) for row in table.iter_rows())


def duckdb_engine(path: Path, *, words: bool = False) -> Answer:
    """One query: kind and node of each line, grouped; the last line of each group by its time."""
    import duckdb

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    lines = (
        f"read_csv({quoted(str(path))}, columns={{'line': 'VARCHAR'}}, auto_detect=false, header=false, "
        f"delim={quoted(NO_SEPARATOR)}, quote='', escape='', max_line_size=1000000)"
    )
    decisions = ", ".join(map(quoted, DECISIONS))
    if words:
        cases = " ".join(f"WHEN contains(line, {quoted(word)}) THEN {quoted(kind)}" for kind, word in WORDS.items())
        found = f"SELECT line, CASE {cases} END AS kind FROM {lines}"
        node = f"CASE WHEN kind IN ({decisions}) THEN regexp_extract(line, {quoted(WHICH)}, 1) END"
    else:
        pattern, kinds, nodes = named()
        order = re.findall(r"\(\?P<(\w+)>", pattern)
        plain = re.sub(r"\?P<\w+>", "", pattern)
        groups = f"[{', '.join(map(quoted, order))}]"
        cases = " ".join(f"WHEN found.{k} <> '' THEN {quoted(kind)}" for k, kind in kinds.items())
        found = (
            f"SELECT line, found, CASE {cases} END AS kind FROM "
            f"(SELECT line, regexp_extract(line, {quoted(plain)}, {groups}) AS found FROM {lines})"
        )
        node = "concat(" + ", ".join(f"found.{n}" for n in nodes) + ")"
    # Without a year, the place in time needs a hint; the place in the file is not kept when several threads read.
    place = f"CASE WHEN line[2:3] < '{NEXT_YEAR}' THEN '1' ELSE '0' END || line[2:21]"
    query = (
        f"SELECT kind, node, count(*), max(place), arg_max(line, place) FROM "
        f"(SELECT line, kind, {node} AS node, {place} AS place FROM ({found})) GROUP BY kind, node"
    )
    return collect(duckdb.connect().execute(query).fetchall())


def polars_words(path: Path) -> Answer:
    """As fast as we could make it: an automaton over all words finds the kind."""
    return polars_engine(path, words=True)


def duckdb_words(path: Path) -> Answer:
    """As fast as we could make it: one `contains` after the other, the commonest first."""
    return duckdb_engine(path, words=True)


ENGINES: dict[str, Callable[[Path], Answer]] = {
    "leptonami": leptonami_engine,
    "re": re_engine,
    "polars": polars_engine,
    "polars-words": polars_words,
    "duckdb": duckdb_engine,
    "duckdb-words": duckdb_words,
}

# Not an answer, only how fast a log can be looked through: name -> arguments of `rg` before the file, and the kinds of
# which it prints how many lines there are.
DECISION = "|".join(pattern.replace("(.*)", "") for kind, pattern in KINDS.items() if kind in DECISIONS)
FLOORS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "rg": (["-c", "--no-mmap", rf"^[IWEF][^\]]*\] (?:{DECISION})"], tuple(DECISIONS)),
    "rg-word": (["-c", "--no-mmap", "-F", WORDS["may-be-removed"]], ("may-be-removed",)),
}
