"""`leptonami explain autoscaler`: the recordings, wrong input, untrusted text, pipes and folders."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from leptonami import datafiles, recordings
from leptonami.cli import cli, main
from leptonami.errors import InputError
from leptonami.explain import sidebyside
from leptonami.explain.autoscaler import explain, explain_recording
from leptonami.explain.given import Given, parse_length, parse_zone
from leptonami.explain.show import Patient
from leptonami.progress import Silent
from leptonami.verdicts.scaledown import Branch, State

RECORDED = datafiles.path("recorded")
SCENARIOS = RECORDED / "autoscaler"
ORIGINAL = RECORDED / "original" / "cluster-autoscaler.log"


def run(*arguments: object, input: bytes | io.BytesIO | None = None) -> Result:
    return CliRunner().invoke(cli, ["explain", "autoscaler", *map(str, arguments)], input=input)


def leave(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    """Run it as a shell does: with the exit code, and with errors as they are told."""
    with pytest.raises(SystemExit) as caught:
        main(["explain", "autoscaler", *map(str, arguments)])
    told = capsys.readouterr()
    return caught.value.code, told.out, told.err


def words(text: str) -> str:
    return " ".join(text.split())


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_original_log() -> None:
    result = run(ORIGINAL)
    told = words(result.stdout)
    assert result.exit_code == 0
    assert "cluster-autoscaler 1.27.1 to 1.27.6" in told
    assert "Node ip-10-0-2-185.ec2.internal was removed at 2023-06-24 20:45:52, unneeded since 20:38:45 (4 p" in told
    assert "Provenance: recorded on 2023-06-24 (original)" in told


def test_since_when_a_removed_node_was_unneeded_is_in_the_json() -> None:
    document = json.loads(run(ORIGINAL, "--json").stdout)
    since = {each["node"].partition(".")[0]: each["unneeded_since"] for each in document["nodes"]}
    assert since == {"ip-10-0-2-185": "2023-06-24T20:38:45.129539+00:00", "ip-10-0-2-252": None}


def test_a_large_file_is_read_side_by_side_and_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ca.log"
    path.write_bytes(gzip.decompress((SCENARIOS / "broken-driver" / "cluster-autoscaler.log.gz").read_bytes()))
    whole = explain(str(path), Given(year=2026))
    started: list[tuple[int, int]] = []
    start = sidebyside.start

    def counted(at: Path, begin: int, end: int) -> subprocess.Popen[bytes]:
        started.append((begin, end))
        return start(at, begin, end)

    monkeypatch.setattr(sidebyside, "PART", 100_000)
    monkeypatch.setattr(sidebyside, "cores", lambda: 8)
    monkeypatch.setattr(sidebyside, "start", counted)
    parts = explain(str(path), Given(year=2026))
    assert len(started) == 1  # one beside this one, whatever the cores: the memory is promised
    assert parts.as_dict() == whole.as_dict()


def test_a_folder_of_parts_names_the_file_of_each_line(tmp_path: Path) -> None:
    log = gzip.decompress((SCENARIOS / "broken-nolabel" / "cluster-autoscaler.log.gz").read_bytes())
    lines = log.splitlines(keepends=True)
    (tmp_path / "ca.log.1").write_bytes(b"".join(lines[:100]))
    (tmp_path / "ca.log").write_bytes(b"".join(lines[100:]))
    found = explain(str(tmp_path), Given(year=2026))
    for name, _, _, proof in found.rows():
        file, _, rest = proof.partition(", line ")
        number, _, message = rest.partition(": ")
        assert name in message
        assert message[:60] in (tmp_path / file).read_text().splitlines()[int(number) - 1]
    wanted = next(each for each in found.story() if "accelerator label is missing" in each)
    assert "(line ca.log:11)" in wanted
    assert "nvidia.com/gpu" in (tmp_path / "ca.log").read_text().splitlines()[10]


@pytest.mark.parametrize(
    ("scenario", "code", "branch", "state"),
    [
        ("healthy", 0, None, State.REMOVED),
        ("broken-driver", 0, None, State.REMOVED),
        ("broken-nolabel", 0, None, State.REMOVED),
        ("broken-toolkit", 3, Branch.VALIDATOR_PODS, State.BLOCKED),
        ("broken-fleet", 3, Branch.CLUSTER_NOT_READY, State.BLOCKED),
    ],
)
def test_the_recordings_end_with_the_code_that_scripts_decide_by(
    scenario: str, code: int, branch: Branch | None, state: State
) -> None:
    result = run(SCENARIOS / scenario, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["wrong"], document["provenance"]) == (code, code == 3, "recorded")
    nodes = [each for each in document["nodes"] if each["node"].startswith("gpu-")]
    assert {(each["state"], each["branch"]) for each in nodes} == {(state, branch)}
    assert all(each["proofs"] for each in nodes)
    assert len(document["read"]) == 6
    assert [each.rpartition("/")[2] for each in document["left_out"]] == ["timeline.jsonl.gz: some other text"]


def test_the_story_comes_first_then_the_table_then_where_it_is_from() -> None:
    told = run(SCENARIOS / "broken-toolkit").stdout
    parts = ["cluster-autoscaler 1.30.7", "[branch 1,", "What to do", "node  ", "────", "line ", "Provenance: recorded"]
    places = [told.index(each) for each in parts]
    assert places == sorted(places)


def test_nothing_is_wider_than_eighty_columns() -> None:
    for scenario in SCENARIOS.iterdir():
        for node in ([], ["--node", "cpu"]):
            told = run(scenario, *node).stdout
            assert max(map(len, told.splitlines())) <= 80


def test_log_and_objects_are_joined() -> None:
    found = explain(str(SCENARIOS / "broken-toolkit"))
    verdict = found.node("gpu-workers-gznqd")
    assert {each.source.rpartition("/")[2] for each in verdict.proofs} == {
        "cluster-autoscaler.log.gz",
        "pods.json",
        "nodes.json",
    }
    assert Branch.GPU_NOT_READY in verdict.also


def test_objects_alone_are_judged_and_say_so(tmp_path: Path) -> None:
    for name in ("nodes.json", "pods.json", "daemonsets.json"):
        shutil.copy(SCENARIOS / "broken-toolkit" / name, tmp_path)
    result = run(tmp_path)
    assert result.exit_code == 3
    assert "from Kubernetes objects and without a log" in words(result.stdout)
    assert "branch 1, validator-pods" in words(result.stdout)


def test_one_node_with_its_lines_its_times_and_its_proofs() -> None:
    result = run(SCENARIOS / "broken-toolkit", "--node", "gznqd")
    told = words(result.stdout)
    assert result.exit_code == 3
    for part in ("blocked: validator-pods (1)", "GPU not ready", "1385 to 2817", "What to do", "is not replicated"):
        assert part in told
    assert "bsrl9" not in told
    document = json.loads(run(SCENARIOS / "broken-toolkit", "--node", "gznqd", "--json").stdout)
    assert [each["phase"] for each in document["spans"]] == ["GPU not ready", "blocked"]
    assert document["node"]["since"] == "2026-11-23T16:49:59.974014+00:00"


def test_the_exit_code_of_one_node_is_its_own() -> None:
    assert run(SCENARIOS / "broken-toolkit", "--node", "cpu-workers").exit_code == 0


@pytest.mark.parametrize(
    ("name", "words", "hint"), [("gpu", "2 nodes have", "gpu-workers-"), ("gpu-workers-x", "no node", "gpu-workers-")]
)
def test_a_node_that_is_not_there_or_not_the_only_one(name: str, words: str, hint: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        explain(str(SCENARIOS / "broken-toolkit")).node(name)
    assert caught.value.hint is not None and hint in caught.value.hint


def test_a_recording_by_its_name_is_checked_first() -> None:
    found = explain_recording("autoscaler/healthy")
    assert found.recording is not None and found.recording.id == "autoscaler/healthy"
    assert not found.wrong
    with pytest.raises(InputError, match="no recording"):
        explain_recording("autoscaler/none")


# --- where it is read from --------------------------------------------------------------------------------------------


def test_standard_input_compressed_or_not() -> None:
    content = ORIGINAL.read_bytes()
    for given in (content, gzip.compress(content)):
        result = run("-", input=given)
        assert result.exit_code == 0
        assert "ip-10-0-2-185.ec2.internal was removed at 2023-06-24 20:45:52" in words(result.stdout)


def test_objects_on_standard_input() -> None:
    nodes, pods = ((SCENARIOS / "broken-toolkit" / name).read_bytes() for name in ("nodes.json", "pods.json"))
    result = run("-", "--json", input=nodes + b"\n" + pods)
    document = json.loads(result.stdout)
    assert result.exit_code == 3
    assert [each["branch"] for each in document["nodes"]][:2] == ["validator-pods"] * 2


def test_a_rotated_log_is_one_log_and_its_proofs_name_the_file(tmp_path: Path) -> None:
    content = recordings.get("autoscaler/broken-toolkit").read("autoscaler-log")
    lines = content.splitlines(keepends=True)
    (tmp_path / "ca.log.2.gz").write_bytes(gzip.compress(b"".join(lines[:1000])))
    (tmp_path / "ca.log.1").write_bytes(b"".join(lines[1000:2000]).rstrip(b"\n"))  # without its last line's end
    (tmp_path / "ca.log").write_bytes(b"".join(lines[2000:]))
    found = explain(str(tmp_path))
    proof = found.node("gpu-workers-gznqd").proofs[0]
    assert (Path(proof.source).name, proof.place) == ("ca.log", "line 817")
    assert lines[2816].decode().strip() == proof.text
    assert found.log is not None and found.log.lines == len(lines)
    span = found.spans("gpu-workers-gznqd")[1]
    assert (found.line(span["first_line"]), found.line(span["last_line"])) == ("ca.log.1:385", "ca.log:817")


def test_logs_of_several_autoscalers_are_not_mixed() -> None:
    with pytest.raises(InputError, match="logs of autoscalers in 5 folders") as caught:
        explain(str(SCENARIOS))
    assert caught.value.hint is not None and "broken-driver" in caught.value.hint


def test_the_year_is_given_found_or_said_to_be_missing(tmp_path: Path) -> None:
    lines = [each for each in ORIGINAL.read_bytes().splitlines(keepends=True) if b"2023" not in each]
    log = tmp_path / "ca.log"
    log.write_bytes(b"".join(lines))
    given = json.loads(run(log, "--json", "--year", "2019", "--zone", "+02:00").stdout)
    assert given["first"] == "2019-06-24T20:42:30.904516+02:00"
    piped = json.loads(run("-", "--json", input=log.read_bytes()).stdout)
    assert piped["first"] == "--06-24T20:42:30.904516"
    assert "does not tell its year (--year)" in words(run("-", input=log.read_bytes()).stdout)


def test_given_timers_decide_when_a_node_goes() -> None:
    lines = recordings.get("autoscaler/healthy").read("autoscaler-log").splitlines(keepends=True)
    early = b"".join(lines[:500])  # the GPU nodes are unneeded and not yet removed
    by = {
        length: json.loads(run("-", "--year", "2026", "--unneeded-time", length, "--json", input=early).stdout)
        for length in ("2m", "7m")
    }
    times = {
        length: {each["at"] for each in found["nodes"] if each["state"] == "will be removed"}
        for length, found in by.items()
    }
    assert len(times["2m"]) == len(times["7m"]) == 1
    assert times["2m"] != times["7m"]


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "looks_like", "hint"),
    [
        ("recorded/original/device-plugin.log", "the log of a device plugin", "try leptonami explain gpu-operator"),
        ("recorded/original/gpu-operator-get-all.txt", "a listing of kubectl", "leptonami explain gpu-operator"),
        ("recorded/README.md", "some other text", "kubectl -n kube-system logs"),
    ],
)
def test_another_kind_of_file_is_told_where_it_belongs(
    capsys: pytest.CaptureFixture[str], path: str, looks_like: str, hint: str
) -> None:
    code, out, err = leave(capsys, datafiles.path(path))
    assert (code, out) == (2, "")
    assert looks_like in err and hint in err


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\x00\x01\x02" * 500, b"{}", b"[1]", b'{"kind": "List", "items": [1]}', b"a: b", b"\xff" * 100],
)
def test_no_evidence_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    code, out, err = leave(capsys, tmp_path / "x")
    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a", "--live"],
        ["a", "--context", "b"],
        ["does-not-exist"],
        ["-", "--zone", "Mars/Olympus"],
        ["-", "--unneeded-time", "ten minutes"],
        ["-", "--year", "12"],
        ["--context", "x", "--kubeconfig", "does-not-exist"],
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = leave(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err


def test_what_is_given() -> None:
    assert str(parse_zone("-03:30").utcoffset(None)) == "-1 day, 20:30:00"
    assert str(parse_zone("Europe/Berlin")) == "Europe/Berlin"
    assert parse_length("1h30m", "x").total_seconds() == 5400
    for wrong in ("", "/etc/passwd", "..", "+25:00", "+1"):
        with pytest.raises(InputError, match="not a time zone"):
            parse_zone(wrong)
    with pytest.raises(InputError, match="not a duration"):
        parse_length("-5m", "x")
    assert Given().year is None


# --- untrusted text, pipes, interrupts --------------------------------------------------------------------------------


def test_a_log_cannot_drive_the_terminal() -> None:
    evil = (
        b"I0624 20:42:30.904516       1 pre_filtering_processor.go:67] Skipping n\x1b]0;owned\x07\x1b[2J"
        b"<script>alert(1)</script>[bold] - node group min size reached (current: 1, min: 1)\n"
    )
    result = run("-", input=evil * 3)
    assert result.exit_code == 0
    assert "\x1b" not in result.output and "\x07" not in result.output
    assert "[bold]" in words(result.stdout)


def test_many_nodes_are_cut_and_counted(tmp_path: Path) -> None:
    line = (
        "I0624 20:42:30.904516       1 pre_filtering_processor.go:67] "
        "Skipping n{} - node group min size reached (current: 1, min: 1)\n"
    )
    (tmp_path / "x.log").write_text("".join(line.format(number) for number in range(100)))
    short, long = run(tmp_path / "x.log"), run(tmp_path / "x.log", "--all")
    assert "… and 70 more (--all shows them, --json has all)" in short.stdout
    assert short.stdout.count("\nn") == 31  # the heading as well
    assert long.stdout.count("\nn") == 101


def test_the_events_as_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "events.parquet"
    result = run(SCENARIOS / "healthy", "--parquet", path)
    assert result.exit_code == 0
    table = pq.read_table(path)
    assert table.num_rows > 500
    assert set(table.column("node").to_pylist()) >= {"gpu-workers-6wkc4", "gpu-workers-kpgxf"}
    waited = {each for each in table.column("duration_seconds").to_pylist() if each is not None}
    assert 100 < max(waited) < 200  # two minutes: the recording's timer


def test_what_cannot_be_read_twice_is_refused_before_it_is_read(tmp_path: Path) -> None:
    stream = io.BytesIO(ORIGINAL.read_bytes())
    result = run("-", "--parquet", tmp_path / "x.parquet", input=stream)
    assert isinstance(result.exception, InputError) and "only a log that is a file" in str(result.exception)
    assert stream.tell() == 0


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "leptonami", "explain", "autoscaler", *map(str, arguments)]


def test_a_pipe_that_is_closed_is_no_error() -> None:
    with subprocess.Popen(
        command(SCENARIOS / "broken-toolkit", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 3


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    with subprocess.Popen(
        command("-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(ORIGINAL.read_bytes() * 2000)  # more than a pipe holds: it has begun to read
        process.stdin.flush()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        told = process.stderr.read()
        process.stdin.close()
    assert b"Traceback" not in told and b"interrupted" in told


def on_a_terminal(*arguments: object) -> tuple[str, str]:
    """Run with standard error on a terminal; give standard output and what the terminal saw."""
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        assert process.stdout is not None
        seen = b""
        with contextlib.suppress(OSError):  # the terminal ends with the process
            while piece := os.read(ours, 1 << 16):
                seen += piece
        out = process.stdout.read().decode()
        process.wait(60)
    os.close(ours)
    return out, seen.decode("utf-8", "replace")


def test_a_small_file_shows_no_progress_on_a_terminal() -> None:
    out, seen = on_a_terminal(ORIGINAL)
    assert "was removed" in words(out) and seen == ""


def test_progress_begins_after_a_while_and_only_where_there_is_some() -> None:
    shown = Patient("reading", wait=0.0)
    assert shown.shown is None
    shown.update("16 MiB", 0.5)
    assert shown.shown is not None
    shown.close()
    patient = Patient("reading", wait=60)
    patient.update("16 MiB", 0.5)
    assert patient.shown is None
    patient.close()


def test_a_long_log_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []

    class Heard(Silent):
        def update(self, detail: str, fraction: float | None = None) -> None:
            told.append((detail, fraction))

    content = ORIGINAL.read_bytes() * (50_000_000 // ORIGINAL.stat().st_size)
    (tmp_path / "ca.log").write_bytes(content)
    (tmp_path / "ca.log.1").write_bytes(ORIGINAL.read_bytes())
    explain(str(tmp_path), progress=Heard())
    fractions = [fraction for _, fraction in told]
    assert len(told) >= 2 and None not in fractions
    assert fractions == sorted(fractions, key=lambda each: each or 0.0)
    assert 0 < (fractions[0] or 0) < (fractions[-1] or 0) <= 1


METRICS = """# TYPE cluster_autoscaler_unremovable_nodes_count gauge
cluster_autoscaler_unremovable_nodes_count{reason="13"} 2
cluster_autoscaler_cluster_safe_to_autoscale 0
"""


def test_a_number_in_the_metrics_is_explained_by_the_version_that_the_log_tells(tmp_path: Path) -> None:
    (tmp_path / "metrics.txt").write_text(METRICS)
    alone = run(tmp_path / "metrics.txt")
    assert alone.exit_code == 0
    assert "2 by reason 13 (cannot be decoded: the autoscaler's version is not known) (line 2)" in words(alone.stdout)
    assert "the whole loop stops [branch 5, cluster-not-ready]" in words(alone.stdout)
    (tmp_path / "ca.log").write_bytes(ORIGINAL.read_bytes())
    assert "2 by BlockedByPod (line 2)" in words(run(tmp_path, "--year", "2023").stdout)
    document = json.loads(run(tmp_path, "--year", "2023", "--json").stdout)
    assert document["metrics"]["unremovable"] == [
        {"reason": "13", "name": "BlockedByPod", "count": 2, "line": "line 2"}
    ]
