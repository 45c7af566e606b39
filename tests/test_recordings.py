"""The recordings: the index is complete, a changed byte is found, nothing private is published, readers get text."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from leptonami import datafiles
from leptonami.bench import report, results
from leptonami.errors import InputError
from leptonami.recordings import Recording, get, load, recordings

FOLDER = datafiles.path("recorded")
IDS = [each.id for each in recordings()]
LAUNCHES = [each for each in IDS if each.startswith("launch/")]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "recorded"))


def test_every_recording_is_there() -> None:
    assert [
        "original",
        *(
            f"autoscaler/{each}"
            for each in ("healthy", "broken-driver", "broken-nolabel", "broken-toolkit", "broken-fleet")
        ),
        *LAUNCHES,
    ] == IDS
    # Measured launches are added and measured again; each folder is one, and the first is what notebook 30 begins with.
    assert sorted(LAUNCHES) == sorted(f"launch/{each.name}" for each in (FOLDER / "launch").iterdir())
    assert LAUNCHES[0] == "launch/process"


@pytest.mark.parametrize("id", LAUNCHES)
def test_launches_are_whole_and_say_what_they_were_measured_under(id: str) -> None:
    found = results.parse(get(id).read(results.KIND), source=id)
    assert found.complete
    assert found.provenance == "measured"
    assert found.machine["filesystem"]
    assert str(get(id).as_dict()["recorded"]) == min(each.began for each in found.trials)[:10]
    for each in found.trials:
        assert each.outcome != "ok" or {"load before", "page cache", "disk made by"} <= set(each.conditions)
    # The index says what the trials say; in figures as they were worked out then.
    said = [each.partition(". Median ")[0] for each in get(id).shows]
    assert said == [row.sentence().partition(". Median ")[0] for row in report.verdicts(found)]


def test_the_index_lists_every_file_and_no_other() -> None:
    recordings.cache_clear()  # another test may have looked at a copy
    listed = {each.path for recording in recordings() for each in recording.files}
    there = {path for path in FOLDER.rglob("*") if path.is_file()} - {FOLDER / "index.yaml", FOLDER / "README.md"}
    assert listed == there
    assert len(listed) == 3 + 5 * 7 + len(LAUNCHES)


@pytest.mark.parametrize("id", IDS)
def test_every_digest_is_right(id: str) -> None:
    recording = get(id)
    recording.verify()
    for each in recording.files:
        raw = each.path.read_bytes()
        assert each.read() == (gzip.decompress(raw) if each.name.endswith(".gz") else raw)


@pytest.mark.parametrize("id", IDS)
def test_logs_are_compressed_without_a_time_or_a_name(id: str) -> None:
    # RFC 1952: flags and time of modification. A name or a time would make the same log another file.
    for each in get(id).files:
        if each.name.endswith(".gz"):
            assert each.path.read_bytes()[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    "name",
    ["original/device-plugin.log", "autoscaler/healthy/pods.json", "autoscaler/healthy/cluster-autoscaler.log.gz"],
)
@pytest.mark.parametrize("where", [0, 500, -1])
def test_a_changed_byte_is_found(copy: Path, name: str, where: int) -> None:
    raw = bytearray((copy / name).read_bytes())
    raw[where] ^= 1
    (copy / name).write_bytes(raw)
    one = {each.id: each for each in load(copy)}[name.rpartition("/")[0]]
    with pytest.raises(InputError, match="not what was recorded") as caught:
        one.verify()
    assert str(caught.value.resource).endswith(name)


@pytest.mark.parametrize("change", [b"", b"\n"])
def test_a_shorter_or_longer_file_is_found(copy: Path, change: bytes) -> None:
    path = copy / "original/device-plugin.log"
    path.write_bytes(path.read_bytes() + change if change else path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not what was recorded"):
        load(copy)[0].read("device-plugin-log")


def test_a_missing_file_is_found(copy: Path) -> None:
    (copy / "original/device-plugin.log").unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load(copy)[0].verify()


def test_content_is_checked_as_well(copy: Path) -> None:
    # The compressed bytes are those of the index, their content is not.
    index = copy / "index.yaml"
    digest = get("autoscaler/healthy").file("autoscaler-log").unpacked_sha256
    index.write_text(index.read_text().replace(digest, "a" * 64))
    with pytest.raises(InputError, match="not what was recorded"):
        load(copy)[1].read("autoscaler-log")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: autoscaler/healthy", "id: original", "a second recording 'original'"),
        ("id: original", "id: ../original", "String should match|does not match|id"),
        ("name: device-plugin.log", "name: ../index.yaml", "not the name of a file"),
        ("kind: device-plugin-log", "kind: autoscaler-log", "a second file of this kind"),
        ("kind: device-plugin-log", "kind: nonsense", "not allowed"),
        ("name: device-plugin.log", "name: device-plugin.log.gz", "has `unpacked`"),
        ("provenance: recorded", "provenance: measured", "not allowed"),
        ("recorded: 2023-06-24", "recorded: yesterday", "not a date"),
    ],
)
def test_mistakes_in_the_index_are_named(copy: Path, old: str, new: str, message: str) -> None:
    index = copy / "index.yaml"
    assert old in index.read_text()
    index.write_text(index.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load(copy)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="no recording 'autoscaler/helthy'") as caught:
        get("autoscaler/helthy")
    assert "did you mean autoscaler/healthy?" in str(caught.value.hint)
    with pytest.raises(InputError, match="has no pods") as caught:
        get("original").read("pods")
    assert "device-plugin-log" in str(caught.value.hint)


@pytest.mark.parametrize("id", IDS)
def test_the_description_is_complete(id: str) -> None:
    recording = get(id)
    assert recording.provenance == "recorded"
    assert recording.title and recording.how and recording.versions
    assert recording.shows and recording.cannot_show
    plain = recording.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    days = {"original": "2023-06-24", "autoscaler": "2026-11-23"}
    assert plain["recorded"] == days.get(id.partition("/")[0], plain["recorded"])
    readme = (FOLDER / "README.md").read_text()
    assert f"`{id.rpartition('/')[2]}`" in readme
    for each in recording.files:
        if each.changed:
            assert "192.0.2.9" in each.changed and "192.0.2.9" in readme


def test_the_wheel_brings_them_along(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, check=True, cwd=root, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for path in (*FOLDER.rglob("*"), datafiles.path("ca-line-fingerprints.json")):
            if path.is_file():
                packed = archive.read(f"leptonami/_data/{path.relative_to(FOLDER.parent)}")
                assert packed == path.read_bytes()


def contents(recording: Recording) -> list[tuple[str, str]]:
    return [(f"{recording.id}/{each.name}", each.read().decode("utf-8")) for each in recording.files]


# In a name such as ip-10-0-2-185.ec2.internal (the original log has some, as published) dashes stand for the points.
PRIVATE = re.compile(
    r"\b(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01])|169\.254)\.\d+\.\d+\b"  # addresses
    r"|(?<![\w.-])/(?:home|root|work|tmp|Users)/"  # paths of a machine
    r"|\b\d{12}\b(?!-)|AKIA[0-9A-Z]{16}|eyJ[A-Za-z0-9_-]{20,}"  # account ids, keys, tokens
)


@pytest.mark.parametrize("id", IDS)
def test_nothing_private_is_published(id: str) -> None:
    for name, text in contents(get(id)):
        for found in PRIVATE.finditer(text):
            line = text[text.rfind("\n", 0, found.start()) + 1 : found.end() + 40]
            # The last part of a UUID may be twelve digits.
            assert re.search(r"-\d{12}", line), f"{name}: {line}"


@pytest.mark.parametrize("id", [each for each in IDS if each.startswith("autoscaler/")])
def test_the_recordings_say_what_the_index_says(id: str) -> None:
    recording = get(id)
    log = recording.read("autoscaler-log").decode()
    assert f"Cluster Autoscaler {recording.versions['cluster-autoscaler']}" in log.splitlines()[0]
    # The message stands in the log a second time, in the event that says the same.
    removed = set(re.findall(r"actuator\.go:147\] Scale-down: removing empty node \"([^\"]+)\"", log))
    blocked = re.findall(r"cannot be removed: gpu-operator/nvidia-cuda-validator-\S+ is not replicated", log)
    stopped = log.count("Cluster is not ready for autoscaling")
    match id.rpartition("/")[2]:
        case "healthy" | "broken-driver":
            assert len(removed) == 2 and not blocked and not stopped
        case "broken-nolabel":
            assert len(removed) == 4 and "{gpu-workers 2->4 (max: 4)}" in log
        case "broken-toolkit":
            assert not removed and len(blocked) > 10 and not stopped
        case "broken-fleet":
            assert not removed and stopped > 50
    for kind in ("nodes", "pods", "daemonsets", "events"):
        assert isinstance(json.loads(recording.read(kind))["items"], list)  # type: ignore[arg-type]
    assert all(json.loads(line)["at"].startswith("2026-11-23T") for line in recording.read("timeline").splitlines())


def test_the_fingerprints_fit_the_recordings() -> None:
    fingerprints = json.loads(datafiles.path("ca-line-fingerprints.json").read_text())
    assert fingerprints["schema"] == 1
    versions = fingerprints["versions"]
    assert len(versions) == 177 and next(iter(versions)) == "1.0.0" and list(versions)[-1] == "1.36.1"
    keys = {key for sites in versions.values() for key in sites}
    assert keys == set(fingerprints["messages"]) and len(keys) == 20
    for sites in versions.values():
        for file, lines in sites.values():
            assert re.fullmatch(r"[a-z_]+\.go", file) and lines and all(isinstance(line, int) for line in lines)
    # What the recorded autoscaler printed before its messages is what the table says for its version.
    table = versions["1.30.7"]
    log = get("autoscaler/healthy").read("autoscaler-log").decode()
    for key, text in (
        ("main_loop", "Starting main loop"),
        ("sd_start", "Starting scale down"),
        ("sd_status", "Scale down status: "),
        ("sim_for_removal", r"Simulating node \S+ removal"),
        ("sim_may", r"node \S+ may be removed"),
        ("unneeded_since", r"\S+ is unneeded since"),
        ("was_unneeded", r"\S+ was unneeded for"),
        ("taint_added", "Successfully added ToBeDeletedByClusterAutoscaler"),
        ("remove_empty", "Scale-down: removing empty node"),
        ("final_plan", "Final scale-up plan"),
        ("set_size", "Scale-up: setting group"),
        ("best_option", "Best option to resize"),
        ("prefilter_minsize", r"Skipping \S+ - node group min size reached"),
    ):
        sites = set(re.findall(rf"(\S+\.go):(\d+)\] {text}", log))
        file, lines = table[key]
        assert sites and sites <= {(file, str(line)) for line in lines}, key
