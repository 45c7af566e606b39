"""Each check with evidence for a claim, against it, on both sides, too old, and about something else."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

import pytest
from decidehelp import (
    DAY,
    HOSTILE,
    built,
    item,
    items_of,
    judged,
    kept,
    log,
    options,
    removed,
    rewrite,
    run_with,
    state,
)

from leptonami import recordings
from leptonami.decide.checks import CHECKS, version_key
from leptonami.decide.claims import ClaimState, judge_all
from leptonami.decide.evidence import Item, collect
from leptonami.decide.options import CheckUse, load, of_check

REMOVED = {"name": "scale-down", "expect": "removed"}
KEPT = {"name": "scale-down", "expect": "kept"}


def test_versions_are_compared_as_numbers() -> None:
    assert version_key("1.9") < version_key("1.10") < version_key("v1.10.1")
    assert version_key("x.y") == (0, 0)


@pytest.mark.parametrize(
    ("check", "evidence", "wanted"),
    [
        (REMOVED, [removed("n-1")], "supported"),
        (REMOVED, [kept("n-1")], "refuted"),
        (REMOVED, [removed("n-1"), kept("n-2")], "contested"),
        (REMOVED, [removed("n-1") + kept("n-2")], "contested"),
        (KEPT, [kept("n-1")], "supported"),
        (KEPT, [removed("n-1")], "refuted"),
        ({**KEPT, "branch": "validator-pods"}, [kept("n-1")], "supported"),
        ({**KEPT, "branch": "cluster-not-ready"}, [kept("n-1")], "not tested"),
        ({"name": "scale-down", "expect": "late"}, [removed("n-1")], "refuted"),
        ({"name": "scale-down", "expect": "late"}, [kept("n-1")], "not tested"),
        (REMOVED, [log("static_autoscaler.go:276|Starting main loop")], "not tested"),
        (REMOVED, [b"no log at all\n"], "not tested"),
        (REMOVED, [b""], "not tested"),
        (REMOVED, [], "not tested"),
    ],
)
def test_an_autoscalers_log(check: dict[str, str], evidence: list[bytes], wanted: str) -> None:
    items = [item(raw, id=f"run/{n}") for n, raw in enumerate(evidence)]
    assert state(check, *items) == wanted


def test_a_node_that_is_kept_because_somebody_wants_it_tells_nothing() -> None:
    raw = log("pre_filtering.go:67|Skipping n-1 - node group min size reached (current: 1, min: 1)")
    assert state(KEPT, item(raw)) == "not tested"


def test_the_proof_is_the_line_of_the_log() -> None:
    found = judged(REMOVED, item(removed("n-1")))
    (bearing,) = found.bearings
    assert bearing.proof is not None
    assert bearing.proof.source == "some/log"
    assert bearing.proof.place == "line 3"
    assert "removing empty node n-1" in bearing.proof.text
    assert found.provenance == "measured"


def test_evidence_counts_for_the_option_that_it_is_about() -> None:
    assert state(REMOVED, item(removed("n-1"), option="two")) == "not tested"
    assert state(REMOVED, item(removed("n-1"), option=None)) == "not tested"  # a recording that no claim names
    named = {**REMOVED, "evidence": ["autoscaler/healthy"]}
    assert state(named, item(removed("n-1"), option=None, group="autoscaler/healthy")) == "supported"


@pytest.mark.parametrize("versions", [{"os": "24.04"}, {"kubernetes": "1.30"}, {"os": HOSTILE[0]}])
def test_evidence_about_another_version_does_not_count(versions: dict[str, str]) -> None:
    for check in (REMOVED, {"name": "image-claims", "expect": "hold", "claims": ["driver."]}):
        kind = "findings" if check["name"] == "image-claims" else "autoscaler-log"
        payload = {"findings": [{"claim": "driver.x", "ok": True, "statement": "s", "observed": "o"}]}
        other = item(removed("n-1"), kind=kind, versions=versions, payload=payload)
        found = judged(check, other)
        assert (found.state, found.provenance) == ("expired", None)
        assert "the question about" in found.why
        # Beside evidence that counts it changes nothing, and what the lab made was no test to begin with.
        assert judged(check, other, item(removed("n-2"), id="b", kind=kind, payload=payload)).state == "supported"
        lab = item(removed("n-1"), kind=kind, versions=versions, payload=payload, provenance="simulated")
        assert judged(check, lab).state == "not tested"


@pytest.mark.parametrize(
    ("told", "wanted"), [("v1.33.4-eks-0123456", "supported"), ("1.3", "expired"), ("1.331", "expired")]
)
def test_evidence_of_a_release_of_the_version_counts(told: str, wanted: str) -> None:
    assert state(REMOVED, item(removed("n-1"), versions={"kubernetes": told})) == wanted


def test_what_only_the_lab_has_shown_counts_as_not_tested() -> None:
    simulated = item(removed("n-1"), id="a", provenance="simulated")
    found = judged(REMOVED, simulated)
    assert (found.state, found.counted, found.provenance) == ("supported", "not tested", "simulated")
    both = judged(REMOVED, simulated, item(removed("n-2"), id="b"))
    assert (both.state, both.counted, both.provenance) == ("supported", "supported", "simulated")
    # What was observed counts, even if it is old only beside the lab's.
    old = judged(REMOVED, simulated, item(removed("n-2"), id="b", day="2000-01-01"))
    assert (old.state, old.counted) == ("supported", "not tested")


def test_old_evidence_expires_and_fresh_evidence_beside_it_counts() -> None:
    old = item(removed("n-1"), id="old", day="2020-01-01")
    assert state(REMOVED, old, shelf_life=365) == "expired"
    assert state(REMOVED, old, shelf_life=3650) == "supported"
    found = judged(REMOVED, old, item(kept("n-2"), id="new"), shelf_life=365)
    assert found.state == "refuted"
    assert [each.stale for each in found.bearings] == [True, False]
    # On its last day it still counts.
    assert state(REMOVED, item(removed("n-1"), day="2025-11-25"), shelf_life=365) == "supported"
    assert state(REMOVED, item(removed("n-1"), day="2025-11-24"), shelf_life=365) == "expired"


def test_a_claim_about_versions_that_are_not_asked_about_has_expired() -> None:
    about = {"about": {"kubernetes": ["1.21", "1.32"]}}
    assert state(REMOVED, item(removed("n-1")), **about) == "expired"
    assert state(REMOVED, item(removed("n-1")), about={"kubernetes": ["1.9", "1.33"]}) == "supported"
    # 23.3.2 is a release of 23.3; 525.105.17 comes after 525.105.9.
    assert state(REMOVED, item(removed("n-1")), about={"gpu-operator": ["23.3", "23.3"]}) == "supported"
    assert state(REMOVED, item(removed("n-1")), about={"driver": ["470", "525.105.9"]}) == "expired"
    assert state(REMOVED, item(removed("n-1")), about={"ubuntu-eks": ["20.04", "20.04"]}) == "expired"
    assert state(REMOVED, item(removed("n-1")), about={"nothing-asked": ["1", "2"]}) == "supported"


def test_a_source_that_nobody_has_read_for_long_expires() -> None:
    check = {"name": "launch-benchmark", "expect": "sooner", "variants": ["unpacked", "base"]}
    assert state(check, shelf_life=30) == "not tested"
    assert state(check, shelf_life=30, day=date(2026, 12, 2)) == "expired"
    assert judged(check).why == "no launch has been measured yet"


HEALTHY = recordings.get("original")


def test_the_gpu_operators_listing() -> None:
    check = {"name": "gpu-stack", "expect": "healthy"}
    listing = item(HEALTHY.read("gpu-operator-listing"), kind="gpu-operator-listing", id="run/listing.txt")
    assert state(check, listing) == "supported"
    assert state({**check, "expect": "broken"}, listing) == "refuted"
    broken = HEALTHY.read("gpu-operator-listing").replace(b"1/1     Running  ", b"0/1     CrashLoopBackOff", 12)
    bad = item(broken, kind="gpu-operator-listing", id="run/bad.txt", group="other")
    assert state(check, bad) == "refuted"
    assert state(check, listing, bad) == "contested"
    assert state(check, item(b"\0\0\0", kind="gpu-operator-listing")) == "not tested"
    assert state(check, item(b"", kind="gpu-operator-listing")) == "not tested"


@pytest.mark.parametrize(
    ("use", "wanted"),
    [
        ({"expect": "published"}, "supported"),
        ({"expect": "missing"}, "refuted"),
        ({"expect": "suffixed"}, "supported"),
        ({"expect": "suffixed", "version": "sha256:" + "0" * 64}, "refuted"),
    ],
)
def test_the_driver_image_of_ubuntu(use: dict[str, str], wanted: str) -> None:
    assert state({"name": "driver-image", **use}) == wanted


def test_the_driver_image_of_amazon_linux_2_does_not_exist() -> None:
    known = options([{"id": "two.image", "check": {"name": "driver-image", "expect": "missing"}}, {"id": "one.x"}])
    (found,) = [each for each in judge_all(known, known.questions[0], DAY, ()) if each.id == "two.image"]
    assert found.state == "supported"
    assert found.bearings[0].proof is not None
    assert "nvcr.io/nvidia/driver:525.105.17-amzn2" in found.bearings[0].proof.text


@pytest.mark.parametrize(
    ("family", "system", "kubernetes", "day", "wanted"),
    [
        ("al2-gpu", "2", "1.26", date(2023, 6, 24), "supported"),
        ("al2-gpu", "2", "1.32", date(2025, 11, 25), "supported"),
        ("al2-gpu", "2", "1.32", date(2025, 11, 26), "refuted"),  # frozen on that day
        ("al2-gpu", "2", "1.35", date(2023, 6, 24), "refuted"),  # no such image
        ("ubuntu-eks", "20.04", "1.29", date(2025, 5, 31), "supported"),
        ("ubuntu-eks", "20.04", "1.29", date(2025, 6, 1), "refuted"),
        ("ubuntu-eks", "20.04", "1.30", date(2024, 6, 1), "refuted"),  # ends at Kubernetes 1.29
        ("bottlerocket-nvidia", "1", "1.35", date(2036, 1, 1), "expired"),  # the catalog itself is too old by then
    ],
)
def test_end_of_life_is_computed_from_the_catalog(
    family: str, system: str, kubernetes: str, day: date, wanted: str
) -> None:
    check = {"name": "end-of-life", "expect": "alive"}
    known = options(
        [{"id": "one.alive", "check": check}],
        versions={"kubernetes": kubernetes},
        systems={family: system, "al2-gpu": "2"},
    )
    option = known.options[0].model_copy(update={"family": family})
    changed = known.model_copy(update={"options": [option, known.options[1]]})
    found = judge_all(changed, changed.questions[0], day, ())[0]
    assert found.state == wanted
    opposite = {**check, "expect": "ended"}
    claim = option.claims[0].model_copy(update={"check": option.claims[0].check.model_copy(update=opposite)})  # type: ignore[union-attr]
    flipped = option.model_copy(update={"claims": [claim]})
    changed = known.model_copy(update={"options": [flipped, known.options[1]]})
    turned = {"supported": "refuted", "refuted": "supported"}.get(wanted, wanted)
    assert judge_all(changed, changed.questions[0], day, ())[0].state == turned


def finding(claim: str, ok: object = True) -> dict[str, object]:
    return {"claim": claim, "ok": ok, "statement": "s", "expected": "e", "observed": "o", "evidence": ""}


@pytest.mark.parametrize(
    ("findings", "wanted"),
    [
        ([finding("driver.version"), finding("image.x", False)], "supported"),
        ([finding("driver.version"), finding("driver.held", False)], "refuted"),
        ([finding("driver.version", "true")], "refuted"),  # only true is true
        ([finding("image.x")], "not tested"),
        ([], "not tested"),
        (None, "not tested"),
        ([5, None, {"claim": "driver.x"}], "not tested"),
    ],
)
def test_what_was_verified_on_the_builder(findings: object, wanted: str) -> None:
    check = {"name": "image-claims", "expect": "hold", "claims": ["driver."]}
    assert state(check, item(kind="findings", payload={"findings": findings})) == wanted


def test_two_builds_may_contradict_each_other() -> None:
    check = {"name": "image-claims", "expect": "hold", "claims": ["driver."]}
    good = item(kind="findings", id="a", payload={"findings": [finding("driver.x")]})
    bad = item(kind="findings", id="b", payload={"findings": [finding("driver.x", False)]})
    assert state(check, good, bad) == "contested"


@pytest.mark.parametrize("payload", [None, 5, [], "x", {"findings": {"a": 1}}, {"findings": [[]]}])
def test_no_payload_breaks_a_check(payload: object) -> None:
    check = {"name": "image-claims", "expect": "hold", "claims": ["driver."]}
    assert state(check, item(kind="findings", payload=payload)) == "not tested"


def test_what_a_run_has_kept(tmp_path: Path) -> None:
    run = run_with(
        tmp_path,
        {"name": "log", "payload": {"option": "one"}, "raw": removed("n-1")},
        {"name": "contents", "kind": "findings", "payload": {"findings": [finding("driver.x")]}},
        manifest=built(),
    )
    items, problems = items_of(run)
    assert problems == []
    contents, found = items
    assert (contents.about.option, contents.about.versions) == ("one", {"os": "22.04", "kubernetes": "1.33"})
    assert contents.about.sample == "1 machine, 1 findings"
    assert found.about.id == f"{run.id}/log"
    assert found.about.option == "one"
    assert found.about.sample == "1 nodes, 3 lines"
    assert found.raw == removed("n-1")
    assert state(REMOVED, *items) == "supported"


def test_what_was_made_of_a_cluster_counts_for_the_option_that_it_had(tmp_path: Path) -> None:
    """The notebooks' own way: verdicts of a live cluster (here of a log that stands in for it), kept in a run."""
    from dataclasses import replace

    from leptonami.explain import evidence
    from leptonami.explain.autoscaler import explain_recording

    run = run_with(tmp_path)
    found = explain_recording("autoscaler/broken-toolkit")
    evidence.keep_scale_down(run, replace(found, recording=None, provenance="measured"), {"x": found})
    evidence.keep_scale_down(run, found, name="recorded-verdicts")
    items, problems = items_of(run, observed="one")
    assert problems == []
    about = {each.about.id.partition("/")[2]: each.about.option for each in items}
    # What was made of a recording counts for nothing: the recording itself does.
    assert about == {"recorded-verdicts": None, "scale-down-verdicts": "one", "scale-down-verdicts-compared": None}
    kept_nodes = judged({**KEPT, "branch": "validator-pods"}, *items)
    assert (kept_nodes.state, kept_nodes.provenance) == ("supported", "measured")
    (bearing,) = kept_nodes.bearings
    assert "2 nodes (gpu-workers-bsrl9, gpu-workers-gznqd)" in bearing.text
    assert bearing.proof is not None
    assert "is not replicated" in bearing.proof.text
    assert state(REMOVED, *items) == "refuted"
    # Nobody said which option the cluster had: then it is about none.
    assert state(REMOVED, *items_of(run)[0]) == "not tested"


def test_what_was_made_of_a_gpu_stack_counts_too(tmp_path: Path) -> None:
    from dataclasses import replace

    from leptonami.explain import evidence
    from leptonami.explain.notebook import gpu_stack

    found = gpu_stack("original")
    run = run_with(tmp_path)
    evidence.keep_stack(run, replace(found, recording=None, provenance="measured"))
    items, _ = items_of(run, observed="one")
    check = {"name": "gpu-stack", "expect": "healthy"}
    assert state(check, *items) == "supported"
    assert state({**check, "expect": "broken"}, *items) == "refuted"
    broken = [replace(each, payload={**each.payload, "state": "broken"}) for each in items]
    assert state(check, *broken) == "refuted"
    waiting = [replace(each, payload={**each.payload, "state": "waiting"}) for each in items]
    assert state(check, *waiting) == "not tested"


@pytest.mark.parametrize("nodes", [None, 5, [], [5], [{}], [{"state": "gone"}], [{"state": "removed", "proofs": [5]}]])
@pytest.mark.parametrize("more", [{}, {"also": 5}, {"also": ["x"]}, {"branch": []}, {"notes": {}}])
def test_no_kept_verdict_breaks_a_check(nodes: object, more: dict[str, object]) -> None:
    told = (
        [{**each, **more} if isinstance(each, dict) else each for each in nodes] if isinstance(nodes, list) else nodes
    )
    found = item(kind="scale-down-verdicts", payload={"nodes": told})
    assert state(REMOVED, found) == "not tested"
    assert state(REMOVED, item(kind="scale-down-verdicts", payload=told)) == "not tested"
    assert (
        state({"name": "gpu-stack", "expect": "healthy"}, item(kind="gpu-stack-verdict", payload=told)) == "not tested"
    )


def test_a_build_of_another_system_is_no_evidence_about_an_option(tmp_path: Path) -> None:
    manifest = {"plan": {"parameters": {"family": "al2023", "os": "2023", "kubernetes": "1.33"}}}
    run = run_with(tmp_path, {"name": "c", "kind": "findings", "payload": {}}, manifest=manifest)
    (found,), _ = items_of(run)
    assert found.about.option is None


@pytest.mark.parametrize("place", [0, 40, 100, -1])
def test_one_altered_byte_of_a_runs_raw_input_is_found(tmp_path: Path, place: int) -> None:
    run = run_with(tmp_path, {"name": "log", "payload": {"option": "one"}, "raw": removed("n-1")})
    path = run.folder / "evidence" / "raw" / "log.txt"
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(bytes(raw))
    items, problems = items_of(run)
    assert items == []
    assert problems == [f"run {run.id}, evidence/log.json: its raw input is not what it was: the digest differs"]


@pytest.mark.parametrize(
    "changes",
    [
        {"provenance": "guessed"},
        {"provenance": None},
        {"collected_at": "yesterday"},
        {"collected_at": 5},
        {"sha256": "x"},
        {"sha256": 5},
    ],
)
def test_a_damaged_piece_of_a_run_is_left_out_and_said(tmp_path: Path, changes: dict[str, object]) -> None:
    run = run_with(tmp_path, {"name": "log", "payload": {}, "raw": b"x"}, {"name": "other", "payload": {}})
    rewrite(run.folder / "evidence" / "log.json", **changes)
    items, problems = items_of(run)
    assert [each.about.id for each in items] == [f"{run.id}/other"]
    assert len(problems) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{", b"[" * 50_000, b'{"kind": 1}'])
def test_what_is_no_evidence_at_all_is_left_out_and_said(tmp_path: Path, content: bytes) -> None:
    run = run_with(tmp_path)
    (run.folder / "evidence" / "bad.json").write_bytes(content)
    items, problems = items_of(run)
    assert (items, len(problems)) == ([], 1)


def test_a_time_without_a_zone_is_utc_wherever_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with(tmp_path, {"name": "log", "payload": {"option": "one"}, "raw": removed("n-1")})
    rewrite(run.folder / "evidence" / "log.json", collected_at="2026-11-20T23:30:00")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert items_of(run)[0][0].about.collected_at == "2026-11-20T23:30:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_run_without_a_folder_is_said(tmp_path: Path) -> None:
    known = load()
    _, problems = collect(known, known.questions[0], runs=tmp_path, run_ids=["20261120-101010-000000"])
    assert problems == ["run 20261120-101010-000000: its folder is missing"]


def test_what_the_recordings_show_and_contradict() -> None:
    """The state of each claim on the shipped evidence: the contradictions are kept, and are not smoothed away."""
    known = load()
    question = known.question("gpu-nodes-2023")
    items, problems = collect(known, question)
    assert problems == []
    states = {each.id: each.state for each in judge_all(known, question, question.date or DAY, items)}
    assert {
        "al2.operator-keeps-nodes": ClaimState.CONTESTED,
        "al2.driver-keeps-nodes": ClaimState.CONTESTED,
        "al2.validator-keeps-nodes": ClaimState.SUPPORTED,
        "al2.driver-delays-nodes": ClaimState.SUPPORTED,
        "al2.fleet-stops": ClaimState.SUPPORTED,
        "al2.no-driver-image": ClaimState.SUPPORTED,
        "al2.tag-is-forced": ClaimState.REFUTED,
        "al2.toolkit-glibc": ClaimState.NOT_TESTED,
        "ubuntu-custom.operands-come-up": ClaimState.SUPPORTED,
        "ubuntu-custom.scales-down": ClaimState.SUPPORTED,
        "ubuntu-custom.cached-images": ClaimState.NOT_TESTED,
    }.items() <= states.items()
    today = known.question("gpu-nodes")
    states = {each.id: each.state for each in judge_all(known, today, DAY, items)}
    assert states["al2.alive"] == "refuted"
    assert states["ubuntu-custom.operands-come-up"] == "expired"


def test_every_check_says_how_a_reader_looks_for_himself() -> None:
    for check in CHECKS.values():
        assert check.expects
        assert check.confirm.startswith("leptonami ")


LATER = {"name": "launch-benchmark", "expect": "later", "variants": ["no-images", "unpacked"]}
SOONER = {"name": "launch-benchmark", "expect": "sooner", "variants": ["unpacked", "no-images"]}


def benchmark(
    verdict: str, *, driver: str = "process", option: str | None = None, id: str = "some/run", **more: object
) -> Item:
    """Make the evidence of a benchmark in which pre-fetched images were held against none."""
    payload = {
        "driver": driver,
        "variants": {"cold": "no-images", "quick": "unpacked"},
        "comparisons": [
            {"candidate": "quick", "baseline": "cold", "verdict": verdict, "sentence": f"quick: {verdict}"}
        ],
        **more,
    }
    return item(b"{}", kind="launch-benchmark", id=id, option=option, payload=payload)


@pytest.mark.parametrize(
    ("check", "verdict", "wanted"),
    [
        (SOONER, "better", "supported"),
        (SOONER, "worse", "refuted"),
        (SOONER, "no practical difference", "refuted"),
        (SOONER, "inconclusive", "not tested"),
        # The claim names them the other way round.
        (LATER, "better", "supported"),
        (LATER, "worse", "refuted"),
        (LATER, "no practical difference", "refuted"),
        ({**SOONER, "variants": ["al2", "base"]}, "better", "not tested"),
    ],
)
def test_a_launch_benchmark(check: dict[str, object], verdict: str, wanted: str) -> None:
    assert state(check, benchmark(verdict)) == wanted


def test_a_launch_benchmark_of_another_driver_or_option_or_of_a_recording_does_not_count() -> None:
    on_ec2 = {**SOONER, "drivers": ["eks"]}
    assert state(on_ec2, benchmark("better", driver="eks")) == "supported"
    assert state(on_ec2, benchmark("better")) == "not tested"
    assert "it takes eks to tell" in judged(on_ec2, benchmark("better")).why
    assert state(SOONER, benchmark("better", option="one")) == "supported"
    assert state(SOONER, benchmark("better", option="two")) == "not tested"
    # A notebook kept the verdicts of a recording, which is evidence itself.
    assert state(SOONER, benchmark("better", recording="launch/process")) == "not tested"
    assert state(SOONER, benchmark("better"), benchmark("worse", id="other")) == "contested"


@pytest.mark.parametrize(
    "payload",
    [[], "text", {"comparisons": "x", "variants": []}, {"comparisons": [1, {"candidate": {}}], "variants": {}}],
)
def test_a_launch_benchmark_may_hold_anything(payload: object) -> None:
    assert state(SOONER, item(b"{}", kind="launch-benchmark", option=None, payload=payload)) == "not tested"
    assert state(SOONER, item(b"no results", kind="launch-benchmark", option=None)) == "not tested"


def test_a_launch_benchmark_compares_two_kinds_that_there_are() -> None:
    for variants in (["unpacked"], ["unpacked", "packed"]):
        use = CheckUse.model_validate({**SOONER, "variants": variants})
        assert any("compares two kinds of variants" in message for message, _ in of_check(use))
    assert of_check(CheckUse.model_validate(SOONER)) == []
    # A record that was altered is judged again, whatever it says.
    assert state({**SOONER, "variants": ["unpacked"]}, benchmark("better")) == "not tested"


def test_the_recorded_launches_bear_on_what_pulling_costs() -> None:
    """The recording's trials themselves are judged: what a run keeps of them has the same form."""
    known = load()
    items, problems = collect(known, known.questions[0])
    assert problems == []
    results = {each.id: each for each in judge_all(known, known.questions[0], known.read, items)}
    pulling = results["al2.slow-bootstrap-fetch"]
    assert pulling.state is ClaimState.SUPPORTED
    assert {each.evidence.provenance for each in pulling.bearings} == {"recorded"}
    assert all(each.evidence.sample.endswith(" trials") for each in pulling.bearings)
    # What it takes EC2 to tell, one machine does not.
    assert results["ubuntu-custom.lazy-disk"].state is ClaimState.NOT_TESTED
    assert "it takes eks to tell" in results["ubuntu-custom.lazy-disk"].why
