"""The autoscaler's log: every wording, every form, the version, and one pass that gives the same however it is cut."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from autoscaler_lines import OTHERS, WORDINGS, N, line
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leptonami import recordings
from leptonami.readers import lines as reading
from leptonami.readers.autoscaler import scan
from leptonami.readers.autoscaler.catalogue import MESSAGES, Classifier, Kind
from leptonami.readers.autoscaler.digest import MOST_PODS, Digest
from leptonami.readers.autoscaler.log import events
from leptonami.readers.autoscaler.merge import merge
from leptonami.readers.autoscaler.track import Phase
from leptonami.readers.autoscaler.version import Sites, releases
from leptonami.readers.years import From

SCENARIOS = ("healthy", "broken-toolkit", "broken-driver", "broken-nolabel", "broken-fleet")


def log_of(recording: str) -> bytes:
    return recordings.get(recording).read("autoscaler-log")


def read(content: bytes, **options: object) -> Digest:
    return scan.digest(reading.batches([content]), **options)  # type: ignore[arg-type]


def summary(digest: Digest) -> object:
    """Everything that a digest knows, without line numbers' bytes."""
    nodes = {
        name: (
            track.status,
            track.number,
            track.changes,
            track.since,
            track.since_number,
            track.waited_number,
            track.removals,
            track.override_last and track.override_last.number,
            track.judged and track.judged.number,
            [(span.status, span.first.number, span.last.number) for span in track.spans],
        )
        for name, track in digest.tracks.items()
    }
    happened = {kind: [each.seen.number for each in several] for kind, several in digest.happenings.items()}
    periods = [
        [(each.first.number, each.last.number, each.loops) for each in several]
        for several in (digest.not_ready, digest.cooldown)
    ]
    return (
        nodes,
        happened,
        periods,
        dict(digest.counts),
        digest.loops,
        digest.lines,
        digest.unread.total,
        str(digest.version),
    )


@pytest.mark.parametrize(("message", "kind", "fields"), WORDINGS, ids=[each[0][:60] for each in WORDINGS])
def test_every_wording_is_known(message: str, kind: Kind, fields: dict[str, str]) -> None:
    found = Classifier().find(b"", message.encode())
    assert found is not None
    row, match = found
    assert row.kind is kind
    for name, value in fields.items():
        assert match[name] == value.encode()


@pytest.mark.parametrize("message", OTHERS)
def test_other_messages_are_none_of_them(message: str) -> None:
    assert Classifier().find(b"", message.encode()) is None


def test_every_row_of_the_catalogue_has_a_case() -> None:
    rows = {id(found[0]) for message, _, _ in WORDINGS if (found := Classifier().find(b"", message.encode()))}
    missing = [row.pattern.pattern for row in MESSAGES if id(row) not in rows and row.kind is not Kind.EVENT]
    assert missing == []


def test_a_call_site_that_was_learnt_does_not_hide_other_messages() -> None:
    classifier = Classifier()
    for message, kind, _ in WORDINGS:  # klogx.go prints many messages from one line
        found = classifier.find(b"klogx.go:87", message.encode())
        assert found is not None
        assert found[0].kind is kind


def test_the_original_log() -> None:
    digest = read(log_of("original"))
    version = digest.version
    assert (version.releases[0], version.releases[-1], version.minor) == ("1.27.1", "1.27.6", "1.27")
    assert version.certainty == "narrow"
    track = digest.tracks[b"ip-10-0-2-185.ec2.internal"]
    assert track.since == b"2023-06-24 20:38:45.129539464 +0000 UTC"
    assert track.removal is not None
    assert digest.when(track.removal) == datetime(2023, 6, 24, 20, 45, 52, 503536, UTC)
    assert digest.year_known is From.MESSAGE
    # The `...` that stands for what the authors left out.
    assert digest.unread.total == 1
    assert digest.unread.kept[0] == (14, "...")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_recordings_name_their_version_twice(scenario: str) -> None:
    digest = read(log_of(f"autoscaler/{scenario}"))
    assert digest.stated_version == "1.30.7"
    assert "1.30.7" in digest.sites.guess().releases
    assert digest.unread.total == 0
    assert digest.loops in {71, 185}


def test_the_version_by_each_release_and_by_none() -> None:
    for release, sites in releases().items():
        seen = Sites()
        for key, (file, places) in sites.items():
            seen.add(key, file, min(places))
        assert release in seen.guess().releases
    assert Sites().guess().certainty == "unknown"
    fork = Sites()
    fork.add("main_loop", "static_autoscaler.go", 99_999)
    assert fork.guess().releases == ()
    assert fork.guess().contradicting == ("static_autoscaler.go:99999",)


def test_two_versions_in_one_log_are_not_one() -> None:
    both = Sites()
    both.add("main_loop", "static_autoscaler.go", min(releases()["1.26.8"]["main_loop"][1]))
    both.add("main_loop", "static_autoscaler.go", min(releases()["1.30.7"]["main_loop"][1]))
    assert both.guess().releases == ()
    assert both.guess().several


PREFIXES = {
    "kubectl --prefix --timestamps": b"[pod/cluster-autoscaler-1/cluster-autoscaler] %bZ ",
    "cri": b"%b123Z stdout F ",
    "journald": b"Nov 23 16:20:35 node-1 cluster-autoscaler[15058]: ",
    "comment": b"# ",
}


@pytest.mark.parametrize("form", PREFIXES)
def test_a_prefix_changes_nothing_but_the_way_there(form: str) -> None:
    content = log_of("autoscaler/broken-toolkit")
    prefixed = b"\n".join(
        PREFIXES[form].replace(b"%b", b"2026-11-23T" + each[6:21]) + each for each in content.rstrip(b"\n").split(b"\n")
    )
    assert summary(read(prefixed)) == summary(read(content))


def test_json_says_the_same() -> None:
    import json

    content = log_of("autoscaler/healthy").rstrip(b"\n").split(b"\n")
    rows = []
    for each in content:
        header = scan.klog.HEADER.match(each)
        assert header is not None
        at = datetime.strptime("2026 " + each[1:21].decode(), "%Y %m%d %H:%M:%S.%f").replace(tzinfo=UTC)
        rows.append(
            json.dumps(
                {
                    "ts": at.timestamp() * 1000,
                    "caller": f"{header[9].decode()}:{header[10].decode()}",
                    "msg": each[header.end() :].decode(),
                    "v": 4,
                }
            ).encode()
        )
    ours, theirs = read(b"\n".join(rows)), read(b"\n".join(content))
    assert summary(ours)[:3] == summary(theirs)[:3]  # type: ignore[index]
    assert ours.year_known is From.PREFIX


def test_parts_of_a_line_are_put_together() -> None:
    whole = line(f"node {N} cannot be removed: default/a is not replicated", "cluster.go:160")
    parts = [b"2023-06-24T20:42:30.9Z stdout P " + whole[:70], b"2023-06-24T20:42:30.9Z stdout F " + whole[70:]]
    digest = read(b"\n".join(parts))
    assert digest.tracks[N.encode()].status is not None
    assert digest.tracks[N.encode()].status.reason == "cannot-be-removed: default/a is not replicated"


@pytest.mark.parametrize("width", [80, 100, 132])
@pytest.mark.parametrize("recording", ["original", "autoscaler/broken-toolkit"])
def test_a_log_that_a_terminal_broke(recording: str, width: int) -> None:
    content = log_of(recording).rstrip(b"\n")
    broken, numbers = [], {}
    for number, each in enumerate(content.split(b"\n"), 1):
        numbers[number] = len(broken) + 1
        broken += [each[at : at + width] for at in range(0, max(len(each), 1), width)]
    ours, theirs = read(b"\n".join(broken)), read(content)
    assert ours.counts == theirs.counts
    assert {name: track.status for name, track in ours.tracks.items()} == {
        name: track.status for name, track in theirs.tracks.items()
    }
    for name, track in theirs.tracks.items():
        assert ours.tracks[name].number == numbers[track.number]


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 4000), max_size=40), scenario=st.sampled_from(SCENARIOS))
def test_how_the_bytes_arrive_makes_no_difference(cuts: list[int], scenario: str) -> None:
    content = log_of(f"autoscaler/{scenario}")
    blocks, rest = [], content
    for cut in cuts:
        blocks.append(rest[:cut])
        rest = rest[cut:]
    blocks.append(rest)
    assert summary(scan.digest(reading.batches(blocks))) == summary(read(content))


def split_at_loops(content: bytes, wanted: list[int]) -> list[bytes]:
    """Cut a log before some of its loops."""
    rows = content.rstrip(b"\n").split(b"\n")
    loops = [index for index, row in enumerate(rows) if row.endswith(b"] Starting main loop")]
    cuts = sorted({loops[each % len(loops)] for each in wanted if loops})
    edges = [0, *[each for each in cuts if each], len(rows)]
    return [b"\n".join(rows[begin:end]) for begin, end in pairwise(edges)]


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), min_size=1, max_size=6), scenario=st.sampled_from(SCENARIOS))
def test_parts_read_apart_are_the_whole(cuts: list[int], scenario: str) -> None:
    content = log_of(f"autoscaler/{scenario}")
    whole, parts = read(content), [read(each) for each in split_at_loops(content, cuts)]
    merged = functools.reduce(merge, parts)
    assert summary(merged) == summary(whole)
    assert [merged.when(each.removal) for each in merged.tracks.values()] == [
        whole.when(whole.tracks[name].removal) for name in merged.tracks
    ]


NODE_MESSAGES = [
    each[0] for each in WORDINGS if each[1] in {*scan.ABOUT_NODE, *scan.KEPT, Kind.UNNEEDED_SINCE, Kind.NOT_READY}
]


REMOVING, AT_MINIMUM = f"Scale-down: removing empty node {N}", f"Skipping {N} - node group min size reached"
DELETING = f"Skipping {N} from delete consideration - the node is currently being deleted"


@settings(max_examples=300, deadline=None)
@given(
    loops=st.lists(
        st.lists(st.tuples(st.sampled_from(NODE_MESSAGES), st.sampled_from(["a", "b"])), max_size=6),
        min_size=1,
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 8), min_size=1, max_size=3),
)
@example(loops=[[(REMOVING, "a")], [(DELETING, "a"), (AT_MINIMUM, "a"), (DELETING, "a")]], cuts=[1])
def test_parts_of_any_log_are_the_whole(loops: list[list[tuple[str, str]]], cuts: list[int]) -> None:
    rows = []
    for messages in loops:
        rows.append(line("Starting main loop"))
        rows += [line(message.replace(N, name)) for message, name in messages]
    content = b"\n".join(rows)
    merged = functools.reduce(merge, [read(each) for each in split_at_loops(content, cuts)])
    assert summary(merged) == summary(read(content))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_quick_ways_say_what_the_careful_one_says(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = log_of(f"autoscaler/{scenario}")
    quick = summary(read(content))
    monkeypatch.setattr(scan.Scanner, "cut_of", lambda *_: None)
    monkeypatch.setattr(scan, "MOST_MESSAGES", 1)  # nothing is remembered for longer than a line
    assert summary(read(content)) == quick


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MOST_NODES", 10)
    monkeypatch.setattr(scan, "MOST_MESSAGES", 50)
    monkeypatch.setattr(scan, "MOST_STATUSES", 5)
    scanner = scan.Scanner()
    for number in range(2000):
        name = f"node-{number}"
        scanner.feed(
            [
                line("Starting main loop"),
                line(f"node {name} cannot be removed: default/pod-{number} is not replicated"),
                line(f"unknown {number}"),
                line(f"{name} was unneeded for {number}s"),
                b"junk",
            ]
        )
        assert len(scanner.digest.tracks) <= 10
        assert len(scanner.memo) <= 51
        assert len(scanner.statuses) <= 5
    digest = scanner.finish()
    assert digest.forgotten + len(digest.tracks) == 2000
    assert (digest.loops, digest.unread.total, digest.counts[Kind.CANNOT_BE_REMOVED]) == (2000, 2000, 2000)
    assert 0 < len(digest.unread.kept) < 100


def test_a_node_that_flaps_keeps_its_latest_spans() -> None:
    rows = []
    for _ in range(1000):
        rows += [line(f"node {N} may be removed"), line(f"Node {N} unremovable: cpu requested (90% of allocatable) is")]
    track = read(b"\n".join(rows)).tracks[N.encode()]
    assert track.changes == 2000
    assert len(track.spans) == 256
    assert track.spans[-1].status.phase is Phase.NEEDED


def test_new_year() -> None:
    rows = [
        line("Starting main loop", at="1231 23:59:50.000000"),
        line(f"{N} is unneeded since 2025-12-31 23:59:50.0 +0000 UTC m=+5.0 duration 0s", at="1231 23:59:50.000000"),
        line("Starting main loop", at="0101 00:00:00.000000"),
        line(f'Scale-down: removing empty node "{N}"', at="0101 00:00:01.000000"),
    ]
    digest = read(b"\n".join(rows))
    track = digest.tracks[N.encode()]
    assert digest.when(digest.first) == datetime(2025, 12, 31, 23, 59, 50, tzinfo=UTC)
    assert digest.when(track.removal) == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)


def test_without_any_hint_the_year_is_not_known() -> None:
    digest = read(line("Starting main loop"))
    assert digest.year_known is From.UNKNOWN
    assert read(line("Starting main loop"), year=2021).when(read(line("Starting main loop")).first) is not None
    assert read(line("x"), reference=datetime(2022, 1, 1, tzinfo=UTC)).year_known is From.REFERENCE


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=30))
def test_arbitrary_bytes_are_read(rows: list[bytes]) -> None:
    digest = read(b"\n".join(rows))
    assert digest.unread.total + sum(digest.counts.values()) <= digest.lines + len(rows)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([each[0] for each in WORDINGS]),
            st.sampled_from(["node-a", "<script>", "\x1b[31m", "a\u202eb", "é"]),
            st.integers(0, 200),
            st.binary(max_size=5),
        ),
        max_size=40,
    )
)
def test_messages_in_any_order_cut_anywhere(rows: list[tuple[str, str, int, bytes]]) -> None:
    from leptonami.verdicts.autoscaler_report import as_dict, spans
    from leptonami.verdicts.scaledown_log import judge

    content = b"\n".join(line(message.replace(N, name))[: 250 - cut] + junk for message, name, cut, junk in rows)
    digest = read(content)
    verdicts = judge(digest)
    assert len(verdicts) == len(digest.tracks)
    assert len(spans(digest)) == sum(len(track.spans) for track in digest.tracks.values())
    assert as_dict(digest, verdicts)["lines"] == digest.lines


def test_merged_parts_tell_no_more_pods_apart_than_a_whole() -> None:
    parts = [read(b"\n".join(line(f"Pod a/{part}-{pod} is unschedulable") for pod in range(1500))) for part in "xy"]
    assert len(merge(*parts).pods) == MOST_PODS


@pytest.mark.timeout(60)
def test_a_line_of_many_megabytes() -> None:
    message = line(f"node {N} cannot be removed: " + "x" * 30_000_000)
    digest = read(b"\n".join([message, b"node " * 6_000_000, line("Starting main loop")]))
    assert digest.loops == 1
    status = digest.tracks[N.encode()].status
    assert status is not None
    assert len(status.reason) < 10_000


def test_events_are_typed() -> None:
    content = log_of("original")
    digest = read(content)
    found = list(events(reading.batches([content]), digest))
    assert sum(digest.counts.values()) - digest.counts[Kind.OTHER] == len(found)
    (since,) = [each for each in found if each.kind is Kind.UNNEEDED_SINCE]
    assert since.line == 11
    assert since.duration == timedelta(minutes=3, seconds=45, microseconds=769776)
    assert since.since == datetime(2023, 6, 24, 20, 38, 45, 129539, UTC)
    (used,) = [each for each in found if each.kind is Kind.UTILIZATION]
    assert (used.resource, used.value, used.node) == ("nvidia.com/gpu", 0.0, "ip-10-0-2-185.ec2.internal")
    assert len(list(events(reading.batches([content]), digest, others=True))) == len(found) + 1


def test_percentages_and_fractions_are_the_same_measure() -> None:
    rows = [line(f"Node {N} - cpu requested is 5% of allocatable"), line(f"Node {N} - cpu utilization 0.05")]
    content = b"\n".join(rows)
    assert [each.value for each in events(reading.batches([content]), read(content))] == [0.05, 0.05]


def test_parquet_has_every_event(tmp_path: Path) -> None:
    import duckdb

    from leptonami.explain.parquet import export

    content = log_of("autoscaler/broken-toolkit")
    digest = read(content)
    path = tmp_path / "events.parquet"
    rows = export(reading.batches([content]), digest, path)
    assert rows == sum(digest.counts.values()) - digest.counts[Kind.OTHER]
    query = f"select count(*), min(time), max(reason) from '{path}' where kind = 'cannot-be-removed'"
    ((counted, first, reason),) = duckdb.sql(query).fetchall()
    assert counted == digest.counts[Kind.CANNOT_BE_REMOVED] == 32
    assert first == datetime(2026, 11, 23, 16, 49, 59, 974014, UTC)
    assert reason.endswith("is not replicated")


def test_parquet_leaves_nothing_half_made(tmp_path: Path) -> None:
    from leptonami.errors import InputError
    from leptonami.explain.parquet import export

    content = log_of("original")

    def broken() -> object:
        yield from reading.batches([content])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(broken(), read(content), tmp_path / "x.parquet")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="cannot be written"):
        export(reading.batches([content]), read(content), tmp_path / "no" / "x.parquet")
