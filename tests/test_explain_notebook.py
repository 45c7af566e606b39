"""What notebooks 40 and 50 show: tables worked out from the recordings, and the evidence that they leave."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from kubeserver import serving

from leptonami import datafiles, recordings
from leptonami.errors import InputError
from leptonami.explain import evidence, notebook
from leptonami.explain.autoscaler import Explanation
from leptonami.explain.gpuoperator import StackExplanation
from leptonami.runs import new_id
from leptonami.tables import Table


@pytest.fixture(scope="module")
def everything() -> dict[str, Explanation]:
    return notebook.all_autoscalers()


@pytest.fixture(scope="module")
def stacks() -> dict[str, StackExplanation]:
    return notebook.all_stacks()


def row(table: Table, first: str) -> tuple[str, ...]:
    return next(each for each in table.rows if each[0] == first)


def test_every_recording_with_a_log_is_compared(everything: dict[str, Explanation]) -> None:
    with_log = {
        each.id for each in recordings.recordings() if any(file.kind == "autoscaler-log" for file in each.files)
    }
    assert set(everything) == with_log
    assert {each.provenance for each in everything.values()} == {"recorded"}


def test_the_healthy_stack_scales_down_and_the_broken_one_does_not_by_the_branch(
    everything: dict[str, Explanation],
) -> None:
    table = notebook.compared_table(everything)
    assert {each[0]: (each[2], each[3].partition(";")[0]) for each in table.rows} == {
        "original": ("1 removed", "none"),
        "healthy": ("2 removed", "none"),
        "broken-toolkit": ("2 blocked", "validator-pods (1)"),
        "broken-driver": ("2 removed", "none"),
        "broken-nolabel": ("4 removed", "none"),
        "broken-fleet": ("5 blocked", "cluster-not-ready (5)"),
    }
    assert row(table, "healthy")[5] == "2.0 min"
    assert row(table, "broken-driver")[4:] == ("15 min", "4.0 min")


def test_where_the_simple_story_does_not_hold(everything: dict[str, Explanation]) -> None:
    table = notebook.contradictions_table(everything)
    assert [each[0] for each in table.rows] == ["broken-driver", "broken-nolabel"]
    assert row(table, "broken-driver")[2].startswith("late, not never")
    assert "the group grew by 4 nodes" in row(table, "broken-nolabel")[2]


def test_the_branches_and_which_recording_shows_them(everything: dict[str, Explanation]) -> None:
    shown = {each[1]: each[3] for each in notebook.branches_table(everything).rows}
    assert shown["validator-pods"] == "broken-toolkit"
    assert shown["cluster-not-ready"] == "broken-fleet"
    assert shown["operator-local-storage"] == "no recording"
    assert shown["no-accelerator-label"] == "on the way: broken-nolabel"
    assert {each[0] for each in notebook.branches_table(everything).rows} == {str(number) for number in range(1, 8)}


def test_tables_of_one_recording_name_its_proofs_and_no_path_of_this_machine(
    everything: dict[str, Explanation], stacks: dict[str, StackExplanation]
) -> None:
    tables = [
        table(found)
        for found in everything.values()
        for table in (notebook.evidence_table, notebook.story_table, notebook.nodes_table, notebook.proofs_table)
    ]
    tables += [
        table(found)
        for found in stacks.values()
        for table in (
            notebook.stack_evidence_table,
            notebook.story_table,
            notebook.stack_table,
            notebook.plugins_table,
        )
    ]
    root = str(datafiles.root())
    assert not [each for each in tables if root in repr(each)]
    assert "is not replicated" in repr(notebook.proofs_table(everything["autoscaler/broken-toolkit"]))


def test_limits_are_said_once(everything: dict[str, Explanation], stacks: dict[str, StackExplanation]) -> None:
    rows = notebook.limits_table([*everything.values(), *stacks.values()]).rows
    assert len({each[0] for each in rows}) == len(rows)
    assert row(notebook.limits_table(everything.values()), rows[0][0])[1] == "original"


def test_the_stacks(stacks: dict[str, StackExplanation]) -> None:
    table = notebook.stacks_table(stacks)
    assert row(table, "original")[2].startswith("healthy as far as a listing can tell")
    assert row(table, "broken-fleet")[2].startswith("broken on 5 of 5 GPU nodes")
    assert row(notebook.plugins_table(stacks["original"]), "nvidia-device-plugin-daemonset-gtcpb")[1] == "serving"
    assert [each[1] for each in notebook.issues_table(stacks.values()).rows] == ["K33"]


def test_the_driver_image_tells_al2_from_ubuntu() -> None:
    table = notebook.images_table(["amzn2", "ubuntu22.04"], version="525.105.17")
    assert [each[1:3] for each in table.rows] == [
        ("nvcr.io/nvidia/driver:525.105.17-amzn2", "no"),
        ("nvcr.io/nvidia/driver:525.105.17-ubuntu22.04", "yes"),
    ]


def test_evidence_comes_by_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = datafiles.path("recorded/autoscaler/healthy")
    assert notebook.autoscaler("autoscaler/broken-toolkit").wrong
    assert not notebook.autoscaler("autoscaler/broken-toolkit", path=str(folder)).wrong
    assert notebook.gpu_stack("original", path=str(datafiles.path("recorded/autoscaler/broken-fleet"))).wrong
    with serving(tmp_path) as server:
        server.take(datafiles.path("recorded/autoscaler/broken-fleet"))
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        assert notebook.autoscaler("", context="test").provenance == "simulated"
        assert notebook.gpu_stack("", context="test").provenance == "simulated"
    with pytest.raises(InputError, match="at once"):
        notebook.autoscaler("", path="x", context="y")


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_verdicts_are_kept_with_the_digests_of_what_was_read(
    tmp_path: Path, everything: dict[str, Explanation], stacks: dict[str, StackExplanation]
) -> None:
    run_id = new_id()
    run = evidence.open_run(tmp_path, run_id)
    found = everything["autoscaler/broken-toolkit"]
    table = evidence.keep_scale_down(run, found, everything)
    again = evidence.open_run(tmp_path, run_id)  # another notebook of the same run
    evidence.keep_stack(again, stacks["original"], stacks)
    assert [each[0] for each in table.rows] == [
        "evidence/scale-down-verdicts.json",
        "evidence/scale-down-verdicts-compared.json",
    ]
    document = json.loads((run.folder / "evidence" / "scale-down-verdicts.json").read_text())
    assert (document["kind"], document["provenance"], document["run"]) == ("scale-down-verdicts", "recorded", run_id)
    recorded = recordings.get("autoscaler/broken-toolkit")
    inputs = {each["name"].rpartition("/")[2]: each["sha256"] for each in document["payload"]["inputs"]}
    assert inputs == {each.name: each.sha256 for each in recorded.files if each.kind != "timeline"}
    raw = (run.folder / "evidence" / "raw" / "scale-down-verdicts.txt").read_bytes()
    assert document["sha256"] == hashlib.sha256(raw).hexdigest()
    verdicts = {each["node"]: each["branch"] for each in document["payload"]["nodes"]}
    assert verdicts["gpu-workers-gznqd"] == "validator-pods"
    stack = json.loads((run.folder / "evidence" / "gpu-stack-verdict.json").read_text())
    assert (stack["kind"], stack["payload"]["state"], stack["payload"]["wrong"]) == ("gpu-stack-verdict", "ok", False)
    compared = json.loads((run.folder / "evidence" / "gpu-stack-verdict-compared.json").read_text())
    assert set(compared["payload"]["recordings"]) == set(stacks)


def test_a_live_cluster_leaves_the_digests_of_what_it_gave(tmp_path: Path) -> None:
    from leptonami.explain import live
    from leptonami.explain.given import Given
    from leptonami.kube import connect

    with serving(tmp_path) as server:
        server.take(datafiles.path("recorded/autoscaler/broken-fleet"))
        with connect(kubeconfig=server.kubeconfig) as cluster:
            found = live.autoscaler(cluster, Given())
    evidence.keep_scale_down(run := evidence.open_run(tmp_path / "runs", new_id()), found)
    document = json.loads((run.folder / "evidence" / "scale-down-verdicts.json").read_text())
    assert document["provenance"] == "simulated"
    assert [(each["name"], len(each["sha256"])) for each in document["payload"]["inputs"]] == [("test", 64)]
    assert document["payload"]["inputs"][0]["bytes"] > 10_000


def test_only_a_run_id_becomes_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run id"):
        evidence.open_run(tmp_path, "../outside")
    assert list(tmp_path.iterdir()) == []
