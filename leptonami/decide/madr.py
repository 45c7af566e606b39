"""A record for readers: MADR 4 (https://adr.github.io/madr/) in Markdown, and the same as one HTML page.

What comes from evidence is untrusted. It stands in code spans or table cells, escaped for Markdown; the page gets
tables as values and not as Markdown, and everything else through `markup.fragment`. So nothing in it becomes markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from leptonami.decide import criteria as criteria_files
from leptonami.decide import options as options_files
from leptonami.decide.bearing import Bearing, Direction
from leptonami.decide.claims import ClaimResult, ClaimState
from leptonami.decide.evaluate import Evaluation
from leptonami.decide.page import Picture, document
from leptonami.decide.report import Report, evidence_table
from leptonami.decide.score import Must
from leptonami.proof import excerpt
from leptonami.tables import Table

if TYPE_CHECKING:
    from leptonami.decide.record import Body, Record

__all__ = ["code", "markdown", "page", "plain"]

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!^])")
LINK = re.compile(r"(?<=[a-zA-Z])://|\bwww\.|@")
WORDS = {
    "measured": "This record rests on **measured** evidence: it was read from AWS or from real components.",
    "recorded": "This record rests on **recorded** evidence: files that somebody recorded, and facts that were looked "
    "up. Nothing was measured for it.",
    "simulated": "This record rests in part on **simulated** evidence, which comes from the embedded lab and was "
    "measured on no cloud. What is simulated says so.",
    None: "This record rests on **no evidence**: what it says, its sources say.",
}


def plain(text: object) -> str:
    r"""Write text so that Markdown shows it as it is.

    >>> plain("<b> [x](y) a_b | c")
    '\\<b\\> \\[x\\](y) a\\_b \\| c'
    """
    one_line = excerpt(" ".join(str(text).split()), 4000)
    return LINK.sub(
        lambda found: "".join(f"\\{c}" if not c.isalnum() else c for c in found[0]), SPECIAL.sub(r"\\\1", one_line)
    )


def code(text: object) -> str:
    """Write untrusted text as a code span that it cannot leave; not for tables, whose cells end at a bar.

    >>> code("a `b` c")
    '`` a `b` c ``'
    """
    shown = excerpt(" ".join(str(text).split()), 600) or " "
    fence = "`" * (max((len(each) for each in re.findall("`+", shown)), default=0) + 1)
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def pipes(table: Table) -> str:
    """Write a table as Markdown; every cell is text."""
    lines = [f"| {' | '.join(plain(each) for each in table.columns)} |", f"|{' --- |' * len(table.columns)}"]
    lines += [f"| {' | '.join(plain(cell) for cell in row)} |" for row in table.rows]
    tail = f" ({table.provenance})" if table.provenance else ""
    return "\n".join([*lines, "", f"*{plain(table.caption)}{tail}*"])


# --- what a record says -----------------------------------------------------------------------------------------------


def blocks(body: Body) -> Iterator[str | Table | Evaluation]:
    """Give what a record says, in order: Markdown, tables, and evaluations where the figure belongs."""
    main = body.main
    told = Report(main, body.options, body.criteria)
    yield f"> {WORDS[body.provenance]} {counted(body)}"
    yield from context(body, main)
    yield drivers(body)
    yield considered(body, main)
    yield from outcome(body, told)
    yield consequences(main)
    yield bullets("### What Is Not Shown", told.not_shown())
    yield confirmation(body)
    yield "## Pros and Cons of the Options"
    for id in main.question.options:
        yield option(body, main, id)
    yield "## Evidence"
    yield evidence_table(body.evidence)
    yield limits(body)
    yield "## Sensitivity"
    yield told.flips_table()
    yield told.turns_table()
    for other in body.evaluations[1:]:
        yield from comparison(body, other)
    yield fall_back(body)
    yield more(body)


def counted(body: Body) -> str:
    """Count the evidence, and say where to read what was real in it."""
    observed = [each for each in body.evidence if each.observed]
    kinds = [f"{sum(o.provenance == kind for o in observed)} {kind}" for kind in WORDS if kind]
    shown = ", ".join(each for each in kinds if not each.startswith("0 "))
    facts = len(body.evidence) - len(observed)
    return (
        f"Observations: {shown or 'none'}; looked-up facts: {facts}. The section Evidence says of each what was real in"
        " it, what was emulated, and what it cannot show."
    )


def bullets(heading: str, items: list[str]) -> str:
    """Write a heading and a list of plain sentences."""
    return "\n".join([heading, "", *(f"- {plain(each)}" for each in items or ["nothing"])])


def context(body: Body, main: Evaluation) -> Iterator[str]:
    """Say what was asked."""
    question = main.question
    versions = ", ".join(f"{name} {version}" for name, version in question.versions.items())
    when = f"Judged for {main.day}, on what is known now" if question.date else f"Judged as of {main.day}"
    yield "\n\n".join(
        [
            "## Context and Problem Statement",
            f"{plain(question.context)}",
            f"**{plain(question.title)}**",
            f"{when}; versions: {plain(versions)}. Written on {body.day}.",
        ]
    )


def drivers(body: Body) -> str:
    """List the criteria."""
    lines = [
        f"- **{plain(each.title)}** (weight {each.weight:g}{', must-have' if each.must else ''}): {plain(each.what)}"
        for each in body.criteria.criteria
    ]
    scale = (
        "An option's score on a criterion is the mean of its claims: 1 for one that was tested, "
        f"{body.criteria.untested:g} for one that only a source states or only the lab has shown; for or against. A "
        "must-have that fails excludes an option whatever its score."
    )
    return "\n".join(["## Decision Drivers", "", *lines, "", scale])


def considered(body: Body, main: Evaluation) -> str:
    """List the options."""
    found = [body.options.option(id) for id in main.question.options]
    return "\n".join(
        ["## Considered Options", "", *(f"- **{plain(each.title)}**: {plain(each.what)}" for each in found)]
    )


def outcome(body: Body, told: Report) -> Iterator[str | Table | Evaluation]:
    """Say what was chosen and why."""
    yield f"## Decision Outcome\n\n{plain(told.outcome())}"
    if told.exclusions():
        yield "\n".join(["Excluded:", "", *(f"- {plain(each)}" for each in told.exclusions())])
    yield told.evaluation
    yield told.matrix()
    for other in body.evaluations[1:]:
        yield f"{plain(beside(body, other))} The section at the end has the details."


def beside(body: Body, other: Evaluation) -> str:
    """Say in a sentence or two what comes out for another question."""
    told = Report(other, body.options, body.criteria)
    same = other.decision.chosen == body.main.decision.chosen
    chosen = "the outcome is the same" if same else f"it would be {told.title(other.decision.chosen)}"
    open_ = [each for each in told.not_shown() if each.startswith("The must-have")]
    return " ".join([f"{other.question.title} As of {other.day} {chosen}.", *(f"{each}." for each in open_)])


def consequences(main: Evaluation) -> str:
    """Say what is good and bad about the chosen option, as far as its claims still count."""
    lines = ["### Consequences", ""]
    counting = [
        each
        for each in main.claims_of(main.decision.chosen)
        if each.state in {ClaimState.SUPPORTED, ClaimState.NOT_TESTED, ClaimState.CONTESTED}
    ]
    for side, word in (("pro", "Good"), ("con", "Bad")):
        lines += [
            f"- {word}, because {plain(lower(each.text))} ({state(each)})" for each in counting if each.side == side
        ]
    return "\n".join(lines)


def state(claim: ClaimResult) -> str:
    """Write how a claim stands, with its provenance."""
    return f"**{claim.state}**" + (f", {claim.provenance}" if claim.provenance else "")


def lower(text: str) -> str:
    """Begin a sentence in small letters, unless it begins with a name."""
    first = text.split(maxsplit=1)[0]
    return text if first[1:] != first[1:].lower() or first in NAMES else text[:1].lower() + text[1:]


NAMES = {"Canonical", "Canonical's", "Bottlerocket", "Ubuntu", "Amazon", "Kubernetes"}


def confirmation(body: Body) -> str:
    """Say how to check the record."""
    commands = list(dict.fromkeys(each for evaluation in body.evaluations for each in evaluation.confirm))
    lines = [
        "### Confirmation",
        "",
        "The record checks itself: this reads the evidence again, judges every claim again, and exits with 3 if "
        "anything was altered, has expired, or no longer follows.",
        "",
        "```",
        f"leptonami record check {body.number:04d}",
        again(body),
        "```",
        "",
        "Each piece of evidence by itself:",
        "",
        "```",
        *commands,
        "```",
        "",
        "They exit with 3 where they find something missing or broken, which some claims say there is; PLAN is a plan "
        "of your own.",
        "",
        "Notebooks: `10_build_ami` (what is in the image), `40_gpu_stack` and `50_autoscaler` (the GPU stack and "
        "the autoscaler), `60_decide` (this decision).",
    ]
    return "\n".join(lines)


def again(body: Body) -> str:
    """Give the command that judges the question as the record did: with its day, its weights and its runs.

    FILE stands for options or criteria that are not the package's. The notebook takes one run; a record that rests on
    several is judged on all of them by `record check`.
    """
    usual = criteria_files.load()
    weights = {each.id: each.weight for each in body.criteria.criteria}
    own = {each.id for each in usual.criteria} != weights.keys() or usual.with_weights(weights) != body.criteria
    other = (
        [] if own else [f"{each.id}={weights[each.id]!r}" for each in usual.criteria if each.weight != weights[each.id]]
    )
    said = {
        "question": body.main.question.id,
        "as_of": "" if body.main.question.date else body.day.isoformat(),
        "options": "" if body.options.digest == options_files.load().digest else "FILE",
        "criteria": "FILE" if own else "",
        "weights": ",".join(other),
        "run_id": "".join(body.runs[:1]),
        "observed": body.observed,
    }
    return " ".join(["leptonami run 60_decide", *(f"-p {name}={value}" for name, value in said.items() if value)])


def option(body: Body, evaluation: Evaluation, id: str) -> str:
    """Tell of one option: what it is, and every claim with its state and proof."""
    about = body.options.option(id)
    lines = [
        f"### {plain(about.title)}",
        "",
        f"{plain(about.what)}. Maintained by {plain(about.maintainer)}.",
        "",
    ]
    for side in ("pro", "con"):
        for claim in evaluation.claims_of(id):
            if claim.side == side:
                lines += claim_lines(claim)
    return "\n".join(lines)


def claim_lines(claim: ClaimResult) -> Iterator[str]:
    """Write a claim: its text, its state and why, its sources, and its evidence."""
    side = "Good" if claim.side == "pro" else "Bad"
    sources = ", ".join(source(each) for each in claim.sources)
    mark = "; decides a must-have" if claim.decides else ""
    yield (
        f"- {side}, because {plain(lower(claim.text))}: {state(claim)}: {plain(claim.why)}. "
        f"Source: {sources}. ({plain(claim.id)}{mark})"
    )
    for each in claim.bearings:
        yield f"    - {bearing(each)}"


def bearing(each: Bearing) -> str:
    """Write how a piece of evidence bears on a claim, with the proof as code."""
    old = ", too old to count" if each.stale and each.direction is not Direction.NEITHER else ""
    toward = {Direction.FOR: "For it", Direction.AGAINST: "Against it", Direction.NEITHER: "Tells nothing"}
    about = each.evidence
    where = f"{code(about.id)}, {plain(about.label)}, {plain(about.sample)}"
    words = f"{toward[each.direction]}{old}: {plain(each.text)} ({where})"
    return words if each.proof is None else f"{words}: {code(each.proof.place)}: {code(each.proof.text)}"


def source(text: str) -> str:
    """Write a source; addresses were checked when the options were read, and are checked again here."""
    if re.fullmatch(r"https://[A-Za-z0-9.-]+/[A-Za-z0-9._~/?=&%+#@:,;-]*", text):
        return f"<{text}>"
    return plain(text)


def limits(body: Body) -> str:
    """Say what the evidence cannot show."""
    found: dict[tuple[str, ...], list[str]] = {}
    for each in body.evidence:
        if each.limits:
            found.setdefault(each.limits, []).append(each.id)
    lines = ["What it cannot show:", ""]
    for texts, ids in found.items():
        lines.append(f"- {', '.join(map(code, ids))}: {plain('; '.join(texts))}")
    return "\n".join(lines if found else ["What it cannot show is not stated."])


def comparison(body: Body, other: Evaluation) -> Iterator[str | Table | Evaluation]:
    """Tell of a further question: what comes out, and what differs from the decision."""
    told = Report(other, body.options, body.criteria)
    before = {each.id: each for each in body.main.claims}
    yield f"## What Holds for Another Question: {plain(other.question.title)}"
    versions = ", ".join(f"{name} {version}" for name, version in other.question.versions.items())
    yield plain(other.question.context)
    yield f"Judged as of {other.day}; versions: {plain(versions)}."
    yield plain(told.outcome())
    if told.exclusions():
        yield "\n".join(["Excluded:", "", *(f"- {plain(each)}" for each in told.exclusions())])
    yield other
    yield told.matrix()
    changed = [each for each in other.claims if each.id in before and before[each.id].state is not each.state]
    yield Table.of(
        ("claim", "text", "then", "now", "why"),
        [(each.id, each.text, before[each.id].state, each.state, each.why) for each in changed],
        caption="Claims that stand otherwise than for the question that was decided",
        provenance=other.provenance,
    )
    yield bullets("### What Is Not Shown Here", told.not_shown())
    for id in other.question.options:
        if id not in body.main.question.options:
            yield option(body, other, id)
    yield "### What Would Change It"
    yield told.flips_table()
    yield told.turns_table()


def fall_back(body: Body) -> str:
    """Say when to go back, and how."""
    lines = ["## Fallback Conditions", ""]
    for each in sorted(body.evaluations, key=lambda each: each.day, reverse=True):
        back = each.question.fall_back
        if back is None:
            continue
        title = plain(body.options.option(back.to).title)
        lines += [
            f"As of {each.day} ({plain(each.question.title)}): back to **{title}**. {plain(back.how)}. The commands "
            f"are in the runbook `runbooks/{back.runbook}.md`.{loss(body, each, back.to)} Go back when:",
            "",
            *(f"- {plain(when)}" for when in back.when),
            "",
        ]
    return "\n".join(lines if len(lines) > 2 else [*lines, "None is named."])


def loss(body: Body, evaluation: Evaluation, to: str) -> str:
    """Say which must-haves the way back fails; nothing if it fails none, or was not among the options."""
    scored = next((each for each in evaluation.decision.options if each.option == to), None)
    titles = {each.id: each.title for each in body.criteria.criteria}
    failed = [f"'{titles[id]}'" for id, must in scored.musts.items() if must is Must.FAILS] if scored else []
    if not failed:
        return ""
    return f" It is a way out and no choice, since it fails {plain(' and '.join(failed))} (see above)."


def more(body: Body) -> str:
    """Say where the rest is."""
    return "\n".join(
        [
            "## More Information",
            "",
            f"- Everything here as data, with full digests: `{body.name}.json`.",
            f"- The options and criteria that were judged are in it; the options' digest is `{body.options.digest}`.",
            '- Sources called "original decision document" are the page of 2023 on which a team wrote its options, '
            "pros and cons by hand; its two logs and its listing are in `data/recorded/original`.",
            "- How a score is made, and how to change weights, options, claims or checks: `docs/decide.md`.",
        ]
    )


# --- the two forms ----------------------------------------------------------------------------------------------------


def markdown(body: Body, status: str) -> str:
    """Write a record as MADR 4.

    Parameters
    ----------
    status
        The status that holds: the one line that may change.
    """
    people = {
        "decision-makers": body.decision_makers,
        "consulted": body.consulted,
        "informed": body.informed,
    }
    head = ["---", f"status: {status}", f"date: {body.day}"]
    head += [f"{name}: [{', '.join(quoted(each) for each in names)}]" for name, names in people.items()]
    parts = ["\n".join([*head, "---"]), f"# {plain(body.title)}"]
    for each in blocks(body):
        if isinstance(each, Table):
            parts.append(pipes(each))
        elif isinstance(each, str):
            parts.append(each.rstrip())
    return "\n\n".join(parts) + "\n"


def quoted(text: str) -> str:
    """Write a name as YAML."""
    return '"' + excerpt(text, 120).replace("\\", "\\\\").replace('"', '\\"') + '"'


def page(record: Record) -> str:
    """Write a record as one HTML page."""
    body = record.body
    shown = [picture(body, each) if isinstance(each, Evaluation) else each for each in blocks(body)]
    status = record.status
    facts = [
        ("Status", f"{status} since {status.on}"),
        ("Accepted on simulated evidence because", status.override),
        ("Note", status.note),
        ("Date", body.day.isoformat()),
        ("Decision-makers", ", ".join(body.decision_makers)),
        ("Consulted", ", ".join(body.consulted)),
        ("Informed", ", ".join(body.informed)),
        ("Decided", Report(body.main, body.options, body.criteria).title(body.main.decision.chosen)),
        ("Also judged", " ".join(beside(body, each) for each in body.evaluations[1:])),
        ("Evidence", f"{len(body.evidence)} pieces, the weakest {body.provenance or 'none'}"),
        ("SHA-256", record.digest[:12]),
    ]
    return document(body.title, shown, source=f"{body.name}.json", provenance=body.provenance, facts=facts)


def picture(body: Body, evaluation: Evaluation) -> Picture:
    """Draw the figure of an evaluation."""
    from leptonami import figures

    told = Report(evaluation, body.options, body.criteria)
    figures.style()
    figure = told.figure()
    png, width, height = figures.png(figure)
    figures.close(figure)
    caption = "Scores of each option on each criterion; the total is their mean by weight"
    return Picture(png, told.figure_text(), caption, width, height, evaluation.provenance)
