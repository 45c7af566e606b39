"""A record is what was written: every byte of it, its evidence, its statuses; and it says what has changed."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from decidehelp import DAY, RUN_ID, criteria, item, kept, options, removed, run_with

from leptonami.decide import criteria as criteria_files
from leptonami.decide import madr, store, verify
from leptonami.decide import record as records
from leptonami.decide.diff import diff
from leptonami.decide.evidence import Item, collect
from leptonami.decide.options import load
from leptonami.decide.record import About, Body, Record
from leptonami.decide.report import Report
from leptonami.decide.score import Turn
from leptonami.errors import InputError

SCALES = {"name": "scale-down", "expect": "removed"}
CLAIMS: list[dict[str, Any]] = [
    {"id": "one.scales", "check": SCALES, "decides": True},
    {"id": "one.life", "criterion": "other", "check": {"name": "end-of-life", "expect": "alive"}, "shelf_life": 400},
    {"id": "two.scales", "check": SCALES},
]


def body_of(*items: Item, day: date = DAY, must: bool = True, **about: Any) -> Body:
    about = {"title": "A test", **about}
    return records.make(options(CLAIMS), criteria(must=must), ["which"], items, day=day, about=About(**about))


def from_run(root: Path, raw: bytes = removed("n-1"), provenance: str = "measured") -> Body:
    """Make a record that rests on a run."""
    run_with(root, {"name": "log", "payload": {"option": "one"}, "raw": raw, "provenance": provenance})
    known = options(CLAIMS)
    items, problems = collect(known, known.questions[0], runs=root, run_ids=[RUN_ID])
    assert problems == []
    return body_of(*items, runs=(RUN_ID,))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return store.write_new(records.new(from_run(tmp_path / "runs"), "accepted"), tmp_path / "records")


def found(path: Path, day: date = DAY) -> list[tuple[str, str]]:
    runs = path.parent.parent / "runs"
    return [(each.what, each.where) for each in verify.check(path, runs=runs, day=day).changes]


def test_a_new_record_holds_and_says_the_same_when_read_again(written: Path) -> None:
    assert found(written) == []
    again = store.read(written)
    assert store.as_json(again) == written.read_text()
    assert again.body.main.decision.chosen == "one"
    assert again.body.provenance == "measured"
    assert str(again.status) == "accepted"
    assert {each.name for each in written.parent.iterdir()} == {
        f"0001-a-test.{each}" for each in ("json", "md", "html")
    }


@pytest.mark.parametrize("suffix", [".json", ".md", ".html"])
def test_one_altered_byte_of_a_record_is_found(written: Path, suffix: str) -> None:
    path = written.with_suffix(suffix)
    whole = path.read_bytes()
    places = {0, len(whole) - 1, *random.Random(suffix).sample(range(len(whole)), 60)}
    for place in places:
        altered = bytearray(whole)
        altered[place] ^= 1
        path.write_bytes(bytes(altered))
        assert found(written), f"byte {place}: {whole[max(0, place - 30) : place + 30]!r}"
    path.write_bytes(whole)
    assert found(written) == []


def test_a_record_about_a_system_that_the_catalog_does_not_know_is_told(written: Path) -> None:
    whole = written.read_text()
    assert '"22.04"' in whole
    written.write_text(whole.replace('"22.04"', '"22.05"'))
    assert any(kind == "outcome" for kind, _ in found(written))


@pytest.mark.parametrize("suffix", [".json", ".md", ".html"])
def test_a_byte_that_is_no_utf8_is_another_text_whatever_stood_there(written: Path, suffix: str) -> None:
    path = written.with_suffix(suffix)
    whole = path.read_bytes()
    # A question mark is what encoders put in the place of what they cannot write.
    assert b"?" in whole
    path.write_bytes(whole.replace(b"?", b"\xff", 1))
    assert (written.name if suffix == ".json" else path.name) in {where for _, where in found(written)}


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_a_missing_file_is_found(written: Path, suffix: str) -> None:
    written.with_suffix(suffix).unlink()
    assert ("text", f"0001-a-test{suffix}") in found(written)


def test_added_or_cut_text_is_found(written: Path) -> None:
    for change in (lambda raw: raw + b"\n", lambda raw: raw[:-1], lambda raw: raw + b"\xff", lambda _: b""):
        for suffix in (".json", ".md", ".html"):
            path = written.with_suffix(suffix)
            whole = path.read_bytes()
            path.write_bytes(change(whole))
            assert found(written)
            path.write_bytes(whole)


def test_one_altered_byte_of_the_raw_evidence_is_found(written: Path) -> None:
    raw = written.parent.parent / "runs" / RUN_ID / "evidence" / "raw" / "log.txt"
    whole = raw.read_bytes()
    for place in range(0, len(whole), 7):
        altered = bytearray(whole)
        altered[place] ^= 1
        raw.write_bytes(bytes(altered))
        assert ("evidence", f"{RUN_ID}/log") in found(written), place
    raw.write_bytes(whole)
    assert found(written) == []


def test_altered_evidence_whose_digest_was_altered_too_is_found(written: Path) -> None:
    """Whoever changes the raw input and puts its new digest beside it has still not changed the record."""
    root = written.parent.parent / "runs"
    shutil.rmtree(root)
    run_with(root, {"name": "log", "payload": {"option": "one"}, "raw": removed("n-2")})
    assert ("evidence", f"{RUN_ID}/log") in found(written)


def test_what_is_said_about_evidence_counts_too(written: Path) -> None:
    path = written.parent.parent / "runs" / RUN_ID / "evidence" / "log.json"
    path.write_text(path.read_text().replace("a test", "another test"))
    assert ("evidence", f"{RUN_ID}/log") in found(written)


def test_lost_evidence_is_found_and_the_claim_no_longer_follows(written: Path) -> None:
    shutil.rmtree(written.parent.parent / "runs")
    changes = found(written)
    assert ("evidence", f"{RUN_ID}/log") in changes
    assert ("claim", "one.scales") in changes


def test_evidence_that_grew_old_is_reported_as_expired(written: Path) -> None:
    result = verify.check(written, runs=written.parent.parent / "runs", day=date(2028, 6, 1))
    assert [(each.what, each.where) for each in result.changes] == [("expired", "one.life")]
    assert "older than 400 days" in result.changes[0].text
    assert result.as_dict()["holds"] is False


def test_a_record_out_of_force_need_not_follow_but_may_not_be_altered(written: Path) -> None:
    made = records.add_status(store.read(written), "superseded", DAY, by="0002-x")
    store.write_again(made, written)
    later = {"runs": written.parent.parent / "runs", "day": date(2035, 1, 1)}
    assert not verify.check(written, **later).holds
    assert verify.check(written, **later, whole=False).holds
    text = written.with_suffix(".md")
    text.write_text(text.read_text().replace("A test", "B test", 1))
    assert [each.what for each in verify.check(written, **later, whole=False).changes] == ["text"]


@pytest.mark.parametrize("about", [{"title": "a \udcff"}, {"decision_makers": ("\udcff",)}])
def test_text_that_no_file_can_hold_is_refused(about: dict[str, Any], written: Path) -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        body_of(**about)
    with pytest.raises(InputError, match="not UTF-8"):
        records.add_status(store.read(written), "deprecated", DAY, note="\udcff")


def test_a_question_of_a_certain_day_does_not_age(tmp_path: Path) -> None:
    known = options(CLAIMS, date="2026-11-20")
    made = records.make(known, criteria(), ["which"], [item(removed("n"))], day=DAY, about=About(title="Then"))
    assert made.main.day == date(2026, 11, 20)
    later = records.make(
        known, criteria(), ["which"], [item(removed("n"))], day=date(2036, 1, 1), about=About(title="Then")
    )
    assert later.main == made.main


def test_a_record_is_not_written_over(written: Path) -> None:
    made = store.read(written)
    before = {each: each.read_bytes() for each in written.parent.iterdir()}
    with pytest.raises(InputError, match="is taken by"):
        store.write_new(made, written.parent)
    with pytest.raises(InputError, match="is taken by"):
        store.write_new(replace(made, body=replace(made.body, title="Another title")), written.parent)
    assert {each: each.read_bytes() for each in written.parent.iterdir()} == before
    assert store.next_number(written.parent) == 2


def test_a_status_is_added_and_nothing_else_changes(written: Path) -> None:
    before = written.with_suffix(".md").read_text()
    made = records.add_status(store.read(written), "deprecated", date(2026, 12, 1), note="it was left")
    store.write_again(made, written)
    assert found(written) == []
    again = store.read(written)
    assert [str(each) for each in again.history] == ["accepted", "deprecated"]
    after = written.with_suffix(".md").read_text()
    assert after == before.replace("status: accepted\n", "status: deprecated\n", 1)
    assert (again.body, again.digest) == (made.body, made.digest)


@pytest.mark.parametrize(
    "change", [{"note": "forged"}, {"on": date(2026, 11, 1)}, {"override": "x"}, {"status": "proposed"}]
)
def test_an_old_status_cannot_be_changed(written: Path, change: dict[str, Any]) -> None:
    made = records.add_status(store.read(written), "deprecated", date(2026, 12, 1))
    forged = replace(made, history=(replace(made.history[0], **change), made.history[1]))
    store.write_again(forged, written)
    assert ("text", "0001-a-test.json") in found(written)
    # Nor can one be left out: the next knows of it.
    store.write_again(replace(made, history=made.history[1:]), written)
    assert ("text", "0001-a-test.json") in found(written)


def test_a_later_version_that_knows_more_fields_does_not_break_old_records(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is of what was written, not of what this version would write."""
    value = json.loads(written.read_text())
    del value["body"]["observed"]  # as a version would have written it that did not know the field
    body = json.dumps(value["body"], ensure_ascii=False)
    value["digest"] = records.digest_of(body, value["text_sha256"])
    entry = store.read(written).history[0]
    value["history"][0]["sha256"] = records.link(value["digest"], (), entry)
    del value["history"][0]["by"]
    written.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    assert [each for each in found(written) if each[0] != "text" or "form" not in each[1]] == [("text", written.name)]
    store.write_again(records.add_status(store.read(written), "deprecated", DAY), written)
    assert found(written) == []
    assert "observed" not in json.loads(written.read_text())["body"]


def test_a_status_has_its_rules(written: Path) -> None:
    made = store.read(written)
    for status, more, words in (
        ("accept", {}, "no such status"),
        ("superseded", {}, "superseded by another"),
        ("deprecated", {"by": "0002-x"}, "superseded by another"),
        ("superseded", {"by": "0001-a-test"}, "supersede itself"),
    ):
        with pytest.raises(InputError, match=words):
            records.add_status(made, status, DAY, **more)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="before its last status"):
        records.add_status(made, "deprecated", date(2020, 1, 1))
    assert str(records.add_status(made, "superseded", DAY, by="0002-x").status) == "superseded by 0002-x"


def test_simulation_alone_cannot_be_accepted(tmp_path: Path) -> None:
    body = from_run(tmp_path, provenance="simulated")
    assert body.provenance == "simulated"
    with pytest.raises(InputError, match="only simulated evidence speaks for one") as caught:
        records.new(body, "accepted")
    assert "--override" in str(caught.value.hint)
    proposed = records.new(body)
    with pytest.raises(InputError, match="only simulated"):
        records.add_status(proposed, "accepted", DAY)
    with pytest.raises(InputError, match="only simulated"):
        records.add_status(proposed, "accepted", DAY, override="  ")
    forced = records.add_status(proposed, "accepted", DAY, override="a rehearsal")
    path = store.write_new(forced, tmp_path / "records")
    assert store.read(path).status.override == "a rehearsal"
    page = path.with_suffix(".html").read_text()
    assert "a rehearsal" in page
    assert "<strong>Simulated.</strong>" in page
    assert "**simulated**" in path.with_suffix(".md").read_text()


def test_nothing_that_was_observed_is_no_ground_either(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no observation speaks for"):
        records.new(body_of(), "accepted")


def test_one_measured_observation_is_enough_and_stale_ones_are_not() -> None:
    simulated = item(removed("n"), id="a", provenance="simulated")
    records.new(body_of(simulated, item(removed("n"), id="b")), "accepted")
    with pytest.raises(InputError, match="only simulated"):
        records.new(body_of(simulated, item(kept("n"), id="b")), "accepted")  # it speaks against
    with pytest.raises(InputError, match="only simulated"):
        records.new(body_of(simulated, item(removed("n"), id="b", day="2000-01-01")), "accepted")


def test_a_record_depends_on_nothing_but_what_it_was_made_from(tmp_path: Path) -> None:
    one = store.render(records.new(body_of(item(removed("n")))))
    two = store.render(records.new(body_of(item(removed("n")))))
    assert one == two
    for text in one.values():
        assert str(tmp_path.parent) not in text


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 2}', b'{"schema": 1}', b"\xff\xfe", b"[" * 60_000])
def test_what_is_no_record_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "0001-x.json"
    path.write_bytes(content)
    with pytest.raises(InputError):
        store.read(path)
    assert verify.check(path, runs=None, day=DAY).changes[0].what == "text"


def test_records_are_found_by_number_name_and_path(written: Path) -> None:
    folder = written.parent
    for name in ("1", "0001", "0001-a-test", "0001-a-test.json", str(written), str(written.with_suffix(".md"))):
        assert store.find(folder, name) == written
    for name in ("2", "a-test", "../x", "", "１"):
        with pytest.raises(InputError, match="there is no record"):
            store.find(folder, name)


@pytest.mark.parametrize("title", ["", "   ", "???", "日本"])
def test_a_title_must_give_a_name(title: str) -> None:
    if not title.strip():
        assert records.make(options(CLAIMS), criteria(), ["which"], [], day=DAY, about=About(title=title.strip())).title
        return
    with pytest.raises(InputError, match="no name can be made"):
        records.make(options(CLAIMS), criteria(), ["which"], [], day=DAY, about=About(title=title))


def test_the_lab_alone_neither_excludes_an_option_nor_meets_a_must_have() -> None:
    for raw in (removed("n"), kept("n")):
        body = body_of(item(raw, provenance="simulated"))
        assert body.main.decision.of("one").musts == {"works": "not shown"}
        page = store.render(records.new(body))["0001-a-test.md"]
        assert "Shown by the lab alone, and counted as not tested: one.scales" in page.replace("\\", "")


def test_a_lead_of_nought_is_called_level() -> None:
    body = body_of(item(removed("n")))
    told = Report(body.main, body.options, body.criteria)
    assert told.then(Turn(("works",), None, "two", "one", 0.0)) == ("The second", "The first", "level")
    assert told.then(Turn(("works",), None, "one", "two", 0.25)) == ("The first (as now)", "The second", "+0.25")
    assert told.then(Turn(("works",), None, None)) == ("none", "none", "–")


def again(*items: Item, weights: dict[str, float] | None = None, **about: Any) -> str:
    """Give the command that a record names to judge the shipped question again."""
    counted = criteria_files.load().with_weights(weights or {})
    body = records.make(load(), counted, ["gpu-nodes"], items, day=DAY, about=About(title="A test", **about))
    (line,) = [each for each in madr.markdown(body, "").splitlines() if each.startswith("leptonami run 60_decide")]
    return line.removeprefix("leptonami run 60_decide -p question=gpu-nodes -p as_of=2026-11-25").strip()


def test_the_command_that_judges_again_judges_the_same() -> None:
    # Without its day and its weights it would be another decision.
    assert again() == ""
    assert again(weights={"cost": 4.9, "launch-time": 0}) == "-p weights=launch-time=0.0,cost=4.9"
    about: dict[str, Any] = {"runs": (RUN_ID,), "observed": "al2023-nvidia"}
    assert again(**about) == f"-p run_id={RUN_ID} -p observed=al2023-nvidia"
    text = madr.markdown(body_of(item(removed("n"))), "")
    assert "-p question=which -p as_of=2026-11-25 -p options=FILE -p criteria=FILE\n" in text


def test_a_way_back_that_fails_a_must_have_says_so() -> None:
    back = {"to": "one", "runbook": "some", "how": "By hand", "when": ["It burns"]}
    for raw, says in ((kept("n"), True), (removed("n"), False)):
        known = options(CLAIMS, fall_back=back)
        told = records.make(known, criteria(must=True), ["which"], [item(raw)], day=DAY, about=About(title="A test"))
        text = madr.markdown(told, "").partition("## Fallback Conditions")[2]
        assert ("It is a way out and no choice, since it fails 'Works' (see above)." in text) is says


def test_what_would_turn_the_outcome_over_is_said_in_words() -> None:
    body = body_of(item(removed("n")))
    told = Report(body.main, body.options, body.criteria)
    firsts = [row[0] for row in told.turns_table().rows]
    assert "It works (one.scales and two.scales): refuted" in firsts


def test_options_that_are_level_are_not_said_to_be_before_each_other() -> None:
    made = body_of(must=False)
    decision = made.main.decision
    level = replace(
        decision,
        options=tuple(replace(each, total=0.25) for each in decision.options),
        tied=tuple(each.option for each in decision.options[1:]),
    )
    told = Report(replace(made.main, decision=level), made.options, made.criteria).outcome()
    assert "level with" in told
    assert "what puts it before" not in told


# --- two records ------------------------------------------------------------------------------------------------------


def made(*items: Item, weights: dict[str, float] | None = None, must: bool = False) -> Body:
    counted = criteria(must=must).with_weights(weights or {})
    return records.make(options(CLAIMS), counted, ["which"], items, day=DAY, about=About(title="A test"))


def test_the_same_twice_has_no_difference() -> None:
    one = made(item(removed("n")))
    assert diff(one, one).same
    assert diff(one, one).told() == "The outcome is the same: one."


def test_a_difference_names_the_evidence_that_moved_the_outcome() -> None:
    before = made(item(removed("n"), id="first"))
    after = made(item(kept("n"), id="second"), item(removed("n"), id="third", option="two"))
    found = diff(before, after)
    assert found.chosen == ("one", "one") or found.moved
    changed = {each.id: each for each in found.claims}
    assert (changed["one.scales"].before, changed["one.scales"].after) == ("supported", "refuted")
    assert (changed["one.scales"].came, changed["one.scales"].went) == (("second",), ("first",))
    assert (found.came, found.went) == (("second", "third"), ("first",))


def test_what_moved_the_outcome_is_told_by_what_moves_it_back() -> None:
    before = made(item(removed("n"), id="log"), must=True)
    after = made(item(kept("n"), id="log"), must=True)
    found = diff(before, after)
    assert found.moved
    assert [(each.id, each.moves) for each in found.claims] == [("one.scales", True)]
    assert found.told() == (
        "The outcome moved from one to two; each of these alone moved it: one.scales (supported -> refuted)."
    )
    assert found.as_dict()["claims"][0]["moves_the_outcome"] is True


def test_weights_that_moved_the_outcome_are_told() -> None:
    items = (item(kept("n")), item(removed("n"), id="b", option="two"))
    before, after = made(*items, weights={"works": 0}), made(*items, weights={"other": 0})
    found = diff(before, after)
    assert (found.moved, found.weights_move, found.claims) == (True, True, ())
    assert found.weights == (("works", "0", "1"), ("other", "1", "0"))
    assert found.told().endswith("alone moved it: the weights.")


def test_altered_evidence_is_told() -> None:
    one = item(removed("n"), id="log")
    other = replace(one, about=replace(one.about, sha256="1" * 64))
    assert diff(made(one), made(other)).altered == ("log",)


def test_a_record_is_a_value() -> None:
    one: Record = records.new(body_of(item(removed("n"))))
    with pytest.raises(AttributeError):
        one.digest = "x"  # type: ignore[misc]
