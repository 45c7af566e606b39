"""The benchmark of logs: what is made is a log of 1.30.7 and repeats itself; every engine gives the right answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from leptonami import datafiles

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

from logbench import engines, rounds  # noqa: E402
from logbench.engines import ENGINES  # noqa: E402
from logbench.generator import Generator  # noqa: E402
from logbench.question import DECISIONS, KINDS, WORDS, Answer  # noqa: E402
from logbench.writer import go_duration  # noqa: E402

PROGRAM = ROOT / "benchmarks" / "logs.py"
SIZE = 8_000_000
# Late enough that a small log crosses New Year and nodes are removed.
START = datetime(2026, 12, 31, 22, 30)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("logs")
    generator = Generator(nodes=40, seed=7, start=START)
    with (folder / "ca.log").open("wb") as stream:
        generator.write(SIZE, stream.write)
    truth = generator.truth()
    (folder / "ca.json").write_text(json.dumps(truth))
    return folder / "ca.log", truth


def test_the_truth_is_what_the_log_says(made: tuple[Path, dict[str, Any]]) -> None:
    path, truth = made
    raw = path.read_bytes()
    text = raw.decode()
    assert SIZE <= len(raw) == truth["bytes"] < SIZE * 1.05
    assert text.count("\n") == truth["lines"]
    assert text.count("] Starting main loop\n") == truth["loops"] == truth["kinds"]["loop"]
    assert text.count("] Final scale-up plan: ") == truth["scale_ups"] > 2
    removed = truth["removed"]
    assert len(re.findall(r"\] Scale-down: removing empty node ", text)) == removed["empty"] > 3
    assert len(re.findall(r"\] Scale-down: removing node ", text)) == removed["with_pods"] > 3
    assert Counter(line[0] for line in text.splitlines()) == truth["severities"]
    assert truth["severities"]["W"] > 0
    assert {state for state, _, _ in truth["nodes"].values()} >= {"skipped", "needed", "blocked", "removed"}
    assert any("nvidia-cuda-validator" in reason for reason in truth["blocked"])
    assert set(truth["kinds"]) <= {*KINDS, "other"}
    assert sum(truth["kinds"].values()) == truth["lines"]


def test_every_line_is_klog_and_time_goes_on(made: tuple[Path, dict[str, Any]]) -> None:
    header = re.compile(r"[IWE](\d{4} \d\d:\d\d:\d\d\.\d{6})       1 [a-z_]+\.go:\d+\] \S")
    before, years = "", 0
    for line in made[0].read_text().splitlines():
        found = header.match(line)
        assert found is not None, line
        if found[1] < before:
            years += 1
            assert (before[:4], found[1][:4]) == ("1231", "0101")
        before = found[1]
    assert years == 1


def test_the_places_are_those_of_the_version(made: tuple[Path, dict[str, Any]]) -> None:
    table = json.loads(datafiles.path("ca-line-fingerprints.json").read_text())["versions"]["1.30.7"]
    places = set(re.findall(r" ([a-z_]+\.go):(\d+)\] ", made[0].read_text()))
    # A healthy cluster does not say that it is not ready.
    for key in set(table) - {"not_ready"}:
        file, lines = table[key]
        assert any((file, str(line)) in places for line in lines), key


def test_addresses_are_reserved_for_documentation(made: tuple[Path, dict[str, Any]]) -> None:
    names = set(re.findall(r"\bip-[\d-]+", made[0].read_text()))
    assert len(names) > 40
    assert all(name.startswith(("ip-192-0-2-", "ip-198-51-100-", "ip-203-0-113-")) for name in names)


def test_timers_are_kept(made: tuple[Path, dict[str, Any]]) -> None:
    # Nobody is removed who was not unneeded for ten minutes, nor during ten minutes after a scale-up.
    waited: dict[str, str] = {}
    cooling = False
    for line in made[0].read_text().splitlines():
        if found := re.search(r"\] (\S+) was unneeded for (\S+)", line):
            waited[found[1]] = found[2]
        elif "Scale down status" in line:
            cooling = line.endswith("scaleDownInCooldown=true")
        elif found := re.search(r"\] Scale-down: removing (?:empty )?node \"?([^\s\",]+)", line):
            assert not cooling
            assert re.match(r"\d+h|[1-9]\dm", waited[found[1]]), waited[found[1]]


def test_a_seed_repeats_itself() -> None:
    def make(seed: int) -> bytes:
        parts: list[bytes] = []
        Generator(nodes=20, seed=seed, start=START).write(200_000, parts.append)
        return b"".join(parts)

    assert make(1) == make(1) != make(2)


def test_a_duration_is_written_as_go_does() -> None:
    assert [go_duration(each) for each in (0, 10_019_217_904, 120_283_788_731, 3_600_000_000_000)] == [
        "0s",
        "10.019217904s",
        "2m0.283788731s",
        "1h0m0s",
    ]


@pytest.mark.parametrize("name", list(ENGINES))
def test_every_engine_is_right(made: tuple[Path, dict[str, Any]], name: str) -> None:
    path, _ = made
    right = Answer.read(path.with_suffix(".json"))
    assert right.differences(ENGINES[name](path)) == []


def test_a_wrong_answer_is_found(made: tuple[Path, dict[str, Any]]) -> None:
    right = Answer.read(made[0].with_suffix(".json"))
    wrong = Answer.read(made[0].with_suffix(".json"))
    node = next(iter(wrong.nodes))
    wrong.nodes[node] = ("needed", "", "0101 00:00:00.000000")
    wrong.kinds["loop"] += 1
    wrong.lines += 1
    found = right.differences(wrong)
    assert len(found) == 3 and node in found[2]


def test_kinds_and_words_are_the_same_kinds() -> None:
    assert set(WORDS) == {*KINDS, "other"}
    assert set(DECISIONS) <= set(KINDS)
    for kind in DECISIONS:
        assert "([^" in KINDS[kind]


def test_the_comparison(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, truth = made
    result = rounds.measure(path, ["re", "polars"], rounds=2, truth=path.with_suffix(".json"), program=PROGRAM)
    assert (result["bytes"], result["base"]) == (truth["bytes"], "re")
    for each in result["engines"]:
        assert each["wrong"] == [] and len(each["times"]) == 2
        assert min(each["times"]) <= each["median"] <= max(each["times"])
        assert 5 < each["mib"] < 2000 and each["cpu"] > 0
    assert result["engines"][0]["ratio"] == 1
    assert "polars" in rounds.report(result)
    # A truth that is not true.
    wrong = {**truth, "kinds": {**truth["kinds"], "loop": truth["loops"] + 1}}
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    command = [sys.executable, str(PROGRAM), "run", str(path), "--rounds", "1", "--engines", "re", "--json"]
    command += ["--truth", str(tmp_path / "wrong.json")]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 1 and found.stdout, found.stderr
    assert "kinds loop" in json.loads(found.stdout)["engines"][0]["wrong"][0]


def test_the_floors_count_what_they_claim(made: tuple[Path, dict[str, Any]]) -> None:
    # ripgrep itself need not be there: its expression is read alike by Python.
    path, truth = made
    text = path.read_text()
    for arguments, kinds in engines.FLOORS.values():
        *options, pattern = arguments
        pattern = re.escape(pattern) if "-F" in options else pattern
        assert sum(re.search(pattern, line) is not None for line in text.splitlines()) == sum(
            truth["kinds"].get(kind, 0) for kind in kinds
        )


def test_the_command_makes_a_log(tmp_path: Path) -> None:
    out, truth = tmp_path / "x.log", tmp_path / "x.json"
    command = [sys.executable, str(PROGRAM), "generate", "--bytes", "300K", "--nodes", "20", "--seed", "3", str(out)]
    done = subprocess.run([*command, "--truth", str(truth)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["lines"] == json.loads(truth.read_text())["lines"] == out.read_bytes().count(b"\n")
    wrong = subprocess.run([*command, "--bytes", "3 apples"], check=False, capture_output=True, text=True)
    assert wrong.returncode == 2 and "not a size: 3 apples" in wrong.stderr
