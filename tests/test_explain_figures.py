"""The figures of an explanation: what they show at 3, 40, 200 and 2,000 nodes, in grey, and in words."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colors, pyplot
from matplotlib.figure import Figure

from leptonami import figures
from leptonami.explain.autoscaler import Explanation, explain, explain_recording, explain_sources
from leptonami.explain.draw_matrix import SIGNS
from leptonami.explain.draw_timeline import LOOKS
from leptonami.explain.figures import matrix_figure, matrix_text, timeline_figure, timeline_text
from leptonami.explain.given import Given
from leptonami.explain.matrix import MOST, columns_of, links_frame
from leptonami.explain.notebook import of_recording
from leptonami.explain.reading import recognised
from leptonami.explain.timeline import MOST_ROWS, timeline
from leptonami.readers.autoscaler.track import Phase
from leptonami.sources import Source
from leptonami.verdicts.operands import Health

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    figures.style()
    yield
    pyplot.close("all")


def words_of(figure: Figure) -> str:
    """All text of a figure, drawn or in its legend and axes."""
    figure.canvas.draw()
    return "\n".join(each.get_text() for each in figure.findobj(pyplot.Text))


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Words of a figure that lie on each other."""
    figure.canvas.draw()
    beyond = {
        id(tick.label1)
        for axes in figure.axes
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for tick in axis.get_major_ticks()
        if not min(low, high) <= tick.get_loc() <= max(low, high)
    }
    shown = [
        each
        for each in figure.findobj(pyplot.Text)
        if each.get_text().strip() and each.get_visible() and id(each) not in beyond
    ]
    boxes = [(each.get_text(), each.get_window_extent().shrunk(0.98, 0.8)) for each in shown]
    return [(one[0], two[0]) for one, two in combinations(boxes, 2) if one[1].overlaps(two[1]) and one[0] != two[0]]


def generated(tmp_path: Path, nodes: int, loops: int) -> Explanation:
    """A synthetic log of so many nodes, by the generator of the benchmarks."""
    from logbench.generator import Generator

    made = Generator(nodes=nodes, seed=5, start=datetime(2026, 3, 1, 23, 30))
    path = tmp_path / "ca.log"
    path.write_bytes(b"".join(made.write_loop() for _ in range(loops)))
    return explain(str(path))


def same_stories(nodes: int, year: int | None = 2026) -> Explanation:
    """A synthetic log: of five nodes one is blocked, one at its minimum, and three have no GPU that is ready."""
    texts = (
        ("cluster.go:160", "node {} cannot be removed: gpu-operator/nvidia-cuda-validator-x{} is not replicated"),
        ("pre_filtering_processor.go:67", "Skipping {} - node group min size reached (current: 1, min: 1)"),
        ("gpu_processor.go:51", "Overriding status of node {}, which seems to have unready GPU"),
    )
    lines = []
    for minute in range(30):
        head = f"I1123 16:{minute:02d}:00.000000       1"
        lines.append(f"{head} static_autoscaler.go:276] Starting main loop\n")
        for number in range(nodes):
            place, text = texts[min(number % 5, 2)]
            name = f"ip-192-0-2-{number}.us-west-2.compute.internal"
            lines.append(f"{head} {place}] {text.format(name, number)}\n")
    # A stream has no time of modification that would tell the year.
    source = Source("-", stream=io.BytesIO("".join(lines).encode()))
    return explain_sources([recognised(source)], "-", Given(year=year))


# --- the timeline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recording", "shown"),
    [
        ("original", ["ip-10-0-2-185", "unneeded", "gone at 20:45:52", "2023-06-24, UTC", "kept: min-size"]),
        ("autoscaler/healthy", ["needed", "gone at 16:26:56", "+1 cpu-workers, +2 gpu-workers"]),
        ("autoscaler/broken-toolkit", ["blocked: validator-pods", "GPU not ready", "scale-down held back"]),
        ("autoscaler/broken-driver", ["GPU not ready", "unneeded", "gone at 16:54:00"]),
        ("autoscaler/broken-fleet", ["cluster not ready: nothing is decided", "gpu-workers-4x5gc"]),
    ],
)
def test_the_timelines_of_the_recordings(recording: str, shown: list[str]) -> None:
    figure = timeline_figure(explain_recording(recording))
    told = words_of(figure)
    assert [each for each in shown if each not in told] == []
    assert overlaps(figure) == []


@pytest.mark.parametrize(
    ("recording", "says"),
    [
        ("autoscaler/healthy", "of 3 nodes 2 were removed; 1 is blocked by min-size (branch 7). It scaled up 2 times."),
        ("autoscaler/broken-toolkit", "2 are blocked by validator-pods (branch 1)"),
        ("autoscaler/broken-driver", "2 were removed"),
        ("autoscaler/broken-driver", "The GPU of 2 nodes was not ready for up to 15 min."),
        ("autoscaler/broken-fleet", "For 15 min the whole loop stopped, since the cluster was not ready."),
    ],
)
def test_the_text_says_what_the_figure_shows(recording: str, says: str) -> None:
    assert says in timeline_text(explain_recording(recording))


def test_a_broken_and_a_healthy_stack_look_different() -> None:
    phases = {
        name: [bar.phase for row in timeline(found.log).single for bar in row.bars if row.nodes[0].startswith("gpu")]
        for name in ("healthy", "broken-toolkit")
        if (found := explain_recording(f"autoscaler/{name}")).log is not None
    }
    assert Phase.BLOCKED not in phases["healthy"] and Phase.REMOVING in phases["healthy"]
    assert Phase.BLOCKED in phases["broken-toolkit"] and Phase.REMOVING not in phases["broken-toolkit"]


def test_a_bar_goes_on_until_the_next_begins_and_a_row_is_in_order() -> None:
    found = explain_recording("autoscaler/broken-toolkit")
    assert found.log is not None
    for row in timeline(found.log).single:
        for one, two in zip(row.bars, row.bars[1:], strict=False):
            assert one.end == pytest.approx(two.begin)
            assert one.begin < one.end


def test_forty_nodes_are_rows_and_those_alike_are_one(tmp_path: Path) -> None:
    found = generated(tmp_path, 40, 120)
    assert found.log is not None
    shown = timeline(found.log)
    assert not shown.counted and len(shown.rows) < len(shown.single)
    figure = timeline_figure(found)
    assert "nodes: ip-" in words_of(figure)
    assert overlaps(figure) == []


def test_two_hundred_nodes_with_few_stories_are_a_few_rows() -> None:
    found = same_stories(200)
    assert found.log is not None
    shown = timeline(found.log)
    assert sorted(len(row.nodes) for row in shown.rows) == [40, 40, 120]
    figure = timeline_figure(found)
    told = words_of(figure)
    assert "120 nodes: ip-192-0-2-2, …" in told and "blocked: validator-pods" in told
    assert figure.get_size_inches()[1] < 3
    assert overlaps(figure) == []


@pytest.mark.parametrize("nodes", [200, 2000])
def test_many_nodes_with_many_stories_are_counted(tmp_path: Path, nodes: int) -> None:
    found = generated(tmp_path, nodes, 200)
    assert found.log is not None
    shown = timeline(found.log)
    assert shown.counted and len(shown.rows) > MOST_ROWS
    _, counts = shown.counts()
    assert max(map(sum, zip(*counts.values(), strict=True))) >= nodes * 0.9
    figure = timeline_figure(found)
    assert "nodes" in words_of(figure) and "needed" in words_of(figure)
    assert figure.get_size_inches()[1] < 6
    assert overlaps(figure) == []


def test_a_year_that_is_not_known_is_not_shown() -> None:
    found = same_stories(3, year=None)
    told = words_of(timeline_figure(found))
    assert "23 November (year not known), UTC" in told
    assert "0004" not in told + timeline_text(found)


def test_nothing_to_show_says_so() -> None:
    found = explain_recording("original")
    empty = Explanation("x", "recorded", (), None, None)
    assert "no log of decisions" in words_of(timeline_figure(empty))
    assert timeline_text(empty).startswith("There is no timeline")
    assert timeline_text(found) != timeline_text(empty)


def test_names_cannot_be_mathematics_nor_endless(tmp_path: Path) -> None:
    line = (
        "I1123 16:00:00.000000       1 pre_filtering_processor.go:67] "
        "Skipping {} - node group min size reached (current: 1, min: 1)\n"
    )
    names = [r"$\frac{1}{0}$", "x" * 500, "<script>", "\N{CJK UNIFIED IDEOGRAPH-4E2D}"]
    (tmp_path / "x.log").write_text("".join(line.format(each) for each in names))
    with pytest.warns(UserWarning, match="missing from font"):
        told = words_of(timeline_figure(explain(str(tmp_path / "x.log"))))
    assert r"$\frac{1}{0}$" in told and "x" * 500 not in told


STAMP = st.tuples(st.integers(1, 12), st.integers(1, 28), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
MESSAGES = (
    "static_autoscaler.go:276] Starting main loop",
    "static_autoscaler.go:403] Cluster is not ready for autoscaling",
    "pre_filtering_processor.go:67] Skipping n1 - node group min size reached (current: 1, min: 1)",
    "gpu_processor.go:51] Overriding status of node n2, which seems to have unready GPU",
    "cluster.go:160] node n2 cannot be removed: a/b is not replicated",
    "nodes.go:84] n3 is unneeded since 2026-11-23 16:00:00 +0000 UTC m=+1.5 duration 1m0s",
    'actuator.go:147] Scale-down: removing empty node "n3"',
    "orchestrator.go:177] Final scale-up plan: [{g 0->2 (max: 6)} {h 1->1 (max: 4)}]",
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(STAMP, st.sampled_from(MESSAGES)), min_size=1, max_size=40))
def test_any_order_of_times_makes_a_timeline(lines: list[tuple[tuple[int, ...], str]]) -> None:
    text = "".join(
        f"I{month:02d}{day:02d} {hour:02d}:{minute:02d}:{second:02d}.000000       1 {message}\n"
        for (month, day, hour, minute, second), message in lines
    )
    found = explain_sources([recognised(Source("-", stream=io.BytesIO(text.encode())))], "-", Given())
    assert found.log is not None
    shown = timeline(found.log)
    assert all(bar.begin <= bar.end for row in shown.single for bar in row.bars)
    times, counts = shown.counts()
    assert all(number >= 0 and len(line) == len(times) for line in counts.values() for number in line)
    words_of(timeline_figure(found))
    pyplot.close("all")
    assert timeline_text(found)


def test_what_happens_after_the_last_line_is_in_the_figure() -> None:
    """Found by Hypothesis: the last line is older than the first, so that the log seemed to span a second."""
    removing = 'actuator.go:147] Scale-down: removing empty node "n3"'
    text = "".join(f"I{day} 00:00:00.000000       1 {removing}\n" for day in ("0601", "0101", "0801", "0201"))
    text += "I0901 00:00:00.000000       1 orchestrator.go:177] Final scale-up plan: [{g 0->2 (max: 6)}]\n"
    text += f"I0201 00:00:00.000000       1 {removing}\n"
    found = explain_sources([recognised(Source("-", stream=io.BytesIO(text.encode())))], "-", Given())
    assert found.log is not None
    shown = timeline(found.log)
    assert shown.length >= max(*(each.end for row in shown.single for each in row.bars), shown.scale_ups[0][0])
    words_of(timeline_figure(found))


# --- operands and nodes -----------------------------------------------------------------------------------------------

ROWS = ["driver", "container-toolkit", "device-plugin", "operator-validator"]


def frame(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=ROWS, dtype=object)


def test_the_matrix_of_a_recording() -> None:
    links = links_frame(of_recording("autoscaler/broken-toolkit").verdict)
    figure = matrix_figure(links)
    told = words_of(figure)
    assert "2 nodes:" in told and "✗" in told and "✗ broken" in told
    assert "Of 2 nodes 0 have nothing that is broken or waits." in matrix_text(links)
    assert overlaps(figure) == []


def test_nodes_that_stand_the_same_are_one_column_the_broken_first() -> None:
    well, bad = ["ok"] * 4, ["broken", "waiting", "waiting", "waiting"]
    many = frame(**{f"n{number:03}": bad if number % 4 == 0 else well for number in range(200)})
    columns = columns_of(many)
    assert [(len(each.nodes), each.states[0]) for each in columns] == [(50, "broken"), (150, "ok")]
    assert matrix_text(many) == (
        "Of 200 nodes 150 have nothing that is broken or waits. On 50, broken: driver; waiting: container-toolkit, "
        "device-plugin, operator-validator."
    )
    assert overlaps(matrix_figure(many)) == []


def test_more_groups_than_can_be_shown_are_one_column_that_says_where_they_differ() -> None:
    states = ["ok", "broken", "waiting", "not determined"]
    many = frame(**{f"n{number}": [states[number // 4**row % 4] for row in range(3)] + ["ok"] for number in range(64)})
    columns = columns_of(many)
    assert len(columns) == MOST and sum(len(each.nodes) for each in columns) == 64
    assert columns[-1].states[-1] == "ok" and "differs" in columns[-1].states
    figure = matrix_figure(many)
    assert "≠ differs" in words_of(figure)
    assert figure.get_size_inches()[0] <= 7.2


def test_a_listing_without_nodes_and_no_evidence() -> None:
    assert matrix_text(frame(**{"(not named)": ["ok"] * 4})).startswith("On the nodes, which the listing does not name")
    empty = pd.DataFrame()
    assert "no operand" in words_of(matrix_figure(empty))
    assert matrix_text(empty).startswith("There is no matrix")


# --- without colour ---------------------------------------------------------------------------------------------------


def lightness(colour: str) -> float:
    """CIE L* of a colour: what is left of it in a grey print."""
    channels = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in colors.to_rgb(colour)]
    luminance = sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def contrast(one: str, two: str) -> float:
    """The contrast of WCAG 2.2."""
    found = []
    for each in (one, two):
        channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(each)]
        found.append(sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True)))
    return (max(found) + 0.05) / (min(found) + 0.05)


def test_phases_are_told_apart_in_grey() -> None:
    for one, two in combinations(LOOKS.values(), 2):
        assert abs(lightness(one.fill) - lightness(two.fill)) > 12 or one.hatch != two.hatch


def test_states_are_told_apart_by_their_signs() -> None:
    signs = [sign for sign, _ in SIGNS.values()]
    assert len(set(signs)) == len(signs)
    assert set(Health) < set(SIGNS)


def test_words_on_bars_and_signs_can_be_read() -> None:
    looks = [*LOOKS.values(), *(look for sign, look in SIGNS.values() if sign)]
    assert min(contrast(look.fill, look.ink) for look in looks) >= 4.5
