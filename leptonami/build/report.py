"""What a build shows to people: tables and figures for the notebook, made from values, never from text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leptonami.tables import Table, facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from leptonami.build.executor import BuildResult
    from leptonami.build.planner import Outline
    from leptonami.plan import Plan

__all__ = [
    "calls_table",
    "claims_table",
    "costs_table",
    "files_table",
    "image_table",
    "images_table",
    "plan_table",
    "stages_figure",
    "stages_text",
    "versions_table",
    "warnings_table",
]


def plan_table(plan: Plan) -> Table:
    """Show what the plan asks for."""
    return facts(
        [
            ("plan", plan.name),
            ("family and OS", f"{plan.family} {plan.os}"),
            ("Kubernetes", plan.kubernetes),
            ("architecture", plan.architecture),
            ("region", plan.region),
            ("builder", ", ".join(plan.builder.instance_types)),
            ("root volume", f"{plan.root_volume.size_gib} GiB {plan.root_volume.type}, encrypted"),
            ("steps", ", ".join(use.name for use in plan.steps) or "none"),
            ("images to pre-fetch", len(plan.images)),
            ("digest", plan.digest[:12]),
        ],
        caption="What the plan asks for",
        columns=("what", "the plan says"),
    )


def warnings_table(plan: Plan) -> Table:
    """Show what a reader should know before building."""
    return Table.of(["warning"], [(each,) for each in plan.warnings or ("none",)], caption="Warnings, as of today")


def calls_table(outline: Outline) -> Table:
    """Show the calls of a build that create or change something, in order."""
    return Table.of(
        ["#", "call", "why", "stays"],
        [
            (number, each.call, each.purpose, "no" if each.temporary else "yes")
            for number, each in enumerate(outline.actions, start=1)
        ],
        caption="Calls that create or change something, in order",
    )


def costs_table(outline: Outline) -> Table:
    """Show the estimated time and cost. Estimates, not measurements: each says what it rests on."""
    estimate = outline.estimate
    cost = "not known" if estimate.builder_usd is None else f"about ${estimate.builder_usd:.2f}"
    rows: list[tuple[str, object]] = [
        ("build", f"about {estimate.seconds / 60:.0f} min"),
        ("builder", cost),
        ("snapshot, a month", f"about ${estimate.snapshot_usd_month:.2f}"),
    ]
    rows += [("assuming", text) for text in estimate.assumptions]
    return facts(rows, caption="Estimated for AWS: neither measured nor simulated", columns=("what", "estimate"))


def image_table(result: BuildResult) -> Table:
    """Show the image that was made and what it was made from."""
    image, base = result.image, result.base
    encrypted = "encrypted" if image.encrypted else "NOT encrypted"
    return facts(
        [
            ("AMI", image.id),
            ("name", image.name),
            ("snapshots", ", ".join(image.snapshots)),
            ("root volume", f"{image.root_device}, {image.size_gib} GiB, {encrypted}"),
            ("base image", base.id),
            ("its name", base.name),
            ("found through", base.parameter or base.source),
            ("parameter version", base.parameter_version or "-"),
        ],
        caption="The image",
        columns=("what", "made"),
        provenance=result.provenance,
    )


def claims_table(result: BuildResult) -> Table:
    """Show every claim of the plan, and what was found on the builder."""
    held = sum(each.ok for each in result.findings)
    return Table.of(
        ["#", "claim", "found", "holds"],
        [
            (number, each.statement, each.observed, "yes" if each.ok else "NO")
            for number, each in enumerate(result.findings, start=1)
        ],
        caption=f"{held} of {len(result.findings)} claims hold",
        provenance=result.provenance,
    )


def versions_table(result: BuildResult) -> Table:
    """Show the versions that the image itself records, without its lists."""
    return facts(
        [
            (name.replace("_", " "), value)
            for name, value in result.versions.items()
            if isinstance(value, str | int | float) and value != ""
        ],
        caption="What the image says of itself",
        columns=("component", "version"),
        provenance=result.provenance,
    )


def images_table(result: BuildResult) -> Table:
    """Show the container images that are in the AMI, with their digests."""
    images: list[dict[str, Any]] = list(result.versions.get("images", []))
    return Table.of(
        ["image", "digest", "pin"],
        [(each.get("ref", ""), str(each.get("digest", ""))[:19], each.get("pin", "")) for each in images],
        caption=f"{len(images)} container images, pulled and unpacked",
        provenance=result.provenance,
    )


def stages_figure(result: BuildResult) -> Figure:
    """Draw how long each stage took: a bar a stage, labelled with its seconds."""
    from matplotlib import pyplot as plt

    stages = list(result.stages)
    figure, axes = plt.subplots(figsize=(7.5, 0.32 * len(stages) + 0.9))
    seconds = [each.seconds for each in stages]
    bars = axes.barh([each.title for each in stages], seconds, height=0.65)
    axes.bar_label(bars, labels=[f"{each:.1f}" for each in seconds], padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(f"seconds ({result.provenance})")
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def stages_text(result: BuildResult) -> str:
    """Say in words what `stages_figure` shows: its alternative text."""
    stages = sorted(result.stages, key=lambda each: -each.seconds)
    total = sum(each.seconds for each in stages)
    first = ", ".join(f"{each.title} {each.seconds:.1f} s" for each in stages[:3])
    return (
        f"Bar chart of the {len(stages)} stages of the build, {total:.1f} s in all ({result.provenance}). "
        f"The longest: {first}."
    )


KEPT = {
    "manifest.json": "all inputs, versions, ids, times and calls",
    "journal.jsonl": "what was about to be done, and what came of it, call by call",
    "evidence": "what was found on the builder, with its provenance and digest",
    "logs": "the whole output of every step",
    "scripts": "the scripts as they were sent",
}


def files_table(result: BuildResult) -> Table:
    """Show what is kept of the run, where it is there."""
    return facts(
        [(name, text) for name, text in KEPT.items() if (result.run.folder / name).exists()],
        caption="Kept of this run",
        columns=("in the run's folder", "what it holds"),
    )
