"""What a build shows to people: tables and figures for the notebook, made from values, never from text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
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


def facts(pairs: list[tuple[str, object]], *, index: str = "", column: str = "value") -> pd.DataFrame:
    """Make a two-column table of names and values."""
    import pandas as pd

    return pd.DataFrame(
        {column: [str(value) for _, value in pairs]}, index=pd.Index([name for name, _ in pairs], name=index)
    )


def plan_table(plan: Plan) -> pd.DataFrame:
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
        index="what",
        column="the plan says",
    )


def warnings_table(plan: Plan) -> pd.DataFrame:
    """Show what a reader should know before building."""
    import pandas as pd

    warnings = list(plan.warnings) or ["none"]
    return pd.DataFrame({"warning": warnings}, index=pd.RangeIndex(1, len(warnings) + 1, name="#"))


def calls_table(outline: Outline) -> pd.DataFrame:
    """Show the calls of a build that create or change something, in order."""
    import pandas as pd

    return pd.DataFrame(
        {
            "call": [each.call for each in outline.actions],
            "why": [each.purpose for each in outline.actions],
            "stays": ["no" if each.temporary else "yes" for each in outline.actions],
        },
        index=pd.RangeIndex(1, len(outline.actions) + 1, name="#"),
    )


def costs_table(outline: Outline) -> pd.DataFrame:
    """Show the estimated time and cost. Estimates, not measurements: each row says what it rests on."""
    estimate = outline.estimate
    cost = "not known" if estimate.builder_usd is None else f"about ${estimate.builder_usd:.2f}"
    rows: list[tuple[str, object]] = [
        ("build", f"about {estimate.seconds / 60:.0f} min"),
        ("builder", cost),
        ("snapshot, a month", f"about ${estimate.snapshot_usd_month:.2f}"),
    ]
    rows += [(f"assumption {number}", text) for number, text in enumerate(estimate.assumptions, start=1)]
    return facts(rows, index="estimated", column="on AWS")


def image_table(result: BuildResult) -> pd.DataFrame:
    """Show the image that was made and what it was made from."""
    image, base = result.image, result.base
    return facts(
        [
            ("AMI", image.id),
            ("name", image.name),
            ("snapshots", ", ".join(image.snapshots)),
            (
                "root volume",
                f"{image.root_device}, {image.size_gib} GiB, {'encrypted' if image.encrypted else 'NOT encrypted'}",
            ),
            ("base image", f"{base.id} ({base.name})"),
            ("found through", base.parameter or base.source),
            ("parameter version", base.parameter_version or "-"),
            ("provenance", result.provenance),
        ],
        index="what",
        column="made",
    )


def claims_table(result: BuildResult) -> pd.DataFrame:
    """Show every claim of the plan, and what was found on the builder."""
    import pandas as pd

    return pd.DataFrame(
        {
            "claim": [each.statement for each in result.findings],
            "found": [str(each.observed) for each in result.findings],
            "holds": ["yes" if each.ok else "NO" for each in result.findings],
        },
        index=pd.RangeIndex(1, len(result.findings) + 1, name="#"),
    )


def versions_table(result: BuildResult) -> pd.DataFrame:
    """Show the versions that the image itself records, without its lists."""
    plain = [
        (name, value) for name, value in result.versions.items() if isinstance(value, str | int | float) and value != ""
    ]
    return facts([(name.replace("_", " "), value) for name, value in plain], index="component", column="version")


def images_table(result: BuildResult) -> pd.DataFrame:
    """Show the container images that are in the AMI, with their digests."""
    import pandas as pd

    images: list[dict[str, Any]] = list(result.versions.get("images", []))
    return pd.DataFrame(
        {
            "image": [str(each.get("ref", "")) for each in images],
            "digest": [str(each.get("digest", ""))[:19] for each in images],
            "pin": [str(each.get("pin", "")) for each in images],
        },
        index=pd.RangeIndex(1, len(images) + 1, name="#"),
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


def files_table(result: BuildResult) -> pd.DataFrame:
    """Show what is kept of the run, where it is there."""
    import pandas as pd

    there = {name: text for name, text in KEPT.items() if (result.run.folder / name).exists()}
    return pd.DataFrame(
        {"what it holds": list(there.values())}, index=pd.Index(list(there), name="in the run's folder")
    )
