"""Images that are made here: whole, deterministic, and what they say they are."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leptonami.bench.local import images
from leptonami.bench.local.oci import HOST, File, Layout
from leptonami.errors import InputError

needs_busybox = pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox-static is not installed")


def unpacked(layout: Layout, digest: str, compression: str) -> bytes:
    raw = layout.path(digest).read_bytes()
    if compression == "gzip":
        return gzip.decompress(raw)
    return raw if compression == "none" else zstandard.ZstdDecompressor().stream_reader(raw).read()


names = st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,3}x[0-9]{1,3}", fullmatch=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, st.binary(max_size=3000), max_size=8), st.sampled_from(["gzip", "zstd", "none"]))
def test_a_layer_is_what_its_digests_say_and_holds_the_files(content: dict[str, bytes], compression: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        files = [File(path, data) for path, data in content.items()]
        descriptor, diff, size, count = layout.layer(files, compression)
        raw = layout.path(descriptor["digest"]).read_bytes()
        assert descriptor["digest"] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
        assert descriptor["size"] == len(raw)
        bare = unpacked(layout, descriptor["digest"], compression)
        assert (diff, size, count) == (f"sha256:{hashlib.sha256(bare).hexdigest()}", len(bare), len(files))
        with tarfile.open(fileobj=io.BytesIO(bare)) as archive:
            assert {e.name: archive.extractfile(e).read() for e in archive if e.isfile()} == content  # type: ignore[union-attr]
            seen: set[str] = {"."}
            for entry in archive:
                assert str(Path(entry.name).parent) in seen, "a folder comes before what is in it"
                seen.add(entry.name)
        assert layout.layer(files, compression)[0] == descriptor
        assert not list(Path(folder).glob("*.part"))


@needs_busybox
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_the_same_specification_gives_the_same_image(tmp_path: Path, compression: str) -> None:
    spec = images.Spec(4, small_files=40, large_files=3, layers=3, compression=compression)  # type: ignore[arg-type]
    made = [images.build(Layout(tmp_path / name), spec, "t") for name in ("a", "b")]
    assert made[0] == made[1]
    other = images.Spec(4, small_files=40, large_files=3, layers=3, compression=compression, seed=2)  # type: ignore[arg-type]
    assert images.build(Layout(tmp_path / "c"), other, "t")[1].digest != made[0][1].digest


@needs_busybox
def test_an_image_has_the_layers_files_and_size_that_were_asked_for(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    pause, app = images.build(layout, images.Spec(12, small_files=100, large_files=3, layers=3), "t")
    assert (pause.ref, app.ref) == (f"{HOST}/pause:1", f"{HOST}/app:t")
    manifest = json.loads(layout.path(app.digest).read_text())
    config = json.loads(layout.path(manifest["config"]["digest"]).read_text())
    assert len(app.layers) == len(config["rootfs"]["diff_ids"]) == 3
    sizes: dict[str, int] = {}
    for digest, diff in zip(app.layers, config["rootfs"]["diff_ids"], strict=True):
        bare = unpacked(layout, digest, "gzip")
        assert diff == f"sha256:{hashlib.sha256(bare).hexdigest()}"
        with tarfile.open(fileobj=io.BytesIO(bare)) as archive:
            sizes |= {entry.name: entry.size for entry in archive if entry.isfile()}
    content = {name: size for name, size in sizes.items() if name.startswith(("app/small", "app/large"))}
    assert sum(name.startswith("app/small") for name in content) == 100
    assert sum(name.startswith("app/large") for name in content) == 3
    assert sum(content.values()) == pytest.approx(12 * 2**20, rel=0.001)
    assert set(sizes) - set(content) == {"bin/busybox", "app/run", "app/reads"}
    assert app.files == len(sizes)
    # What the weights and the words are meant to be like (the module's text).
    assert 1.2 < app.unpacked / app.packed < 2.5


@needs_busybox
def test_what_is_made_is_found_again_and_made_anew_when_it_is_damaged(tmp_path: Path) -> None:
    layout, spec = Layout(tmp_path), images.Spec(2, small_files=5, large_files=1, layers=1)
    first = images.build(layout, spec, "t")
    file = layout.path(first[1].layers[0])
    before = file.stat().st_mtime_ns
    assert images.build(layout, spec, "t") == first
    assert file.stat().st_mtime_ns == before
    file.unlink()
    assert images.build(layout, spec, "t") == first
    assert file.exists()
    assert images.build(layout, images.Spec(3, small_files=5, large_files=1, layers=1), "t") != first


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40), st.floats(0, 1))
def test_about_the_share_is_read(given_: list[int], share: float) -> None:
    sizes = {f"app/{number}": size for number, size in enumerate(given_)}
    chosen = images.what_is_read(sizes, share)
    read = [sizes[f"app/{path}"] for path in chosen]
    assert len(set(chosen)) == len(chosen)
    assert sum(read) >= share * sum(sizes.values()) * (1 - 1e-9)
    assert not read or sum(read) - max(read) <= share * sum(sizes.values())


def test_python_has_an_interpreter_its_libraries_and_no_caches() -> None:
    files = {file.path for file in images.python_files()}
    assert "opt/python/bin/python3" in files
    assert any(path.endswith("/encodings/utf_8.py") for path in files)
    assert any("/site-packages/scipy/linalg/" in path and ".so" in path for path in files)
    assert any("libc.so" in path for path in files)
    assert not [path for path in files if "__pycache__" in path or "/tests/" in path]
    assert not [path for path in files if path.startswith("/") or ".." in path]


def test_without_busybox_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError) as caught:
        images.build(Layout(tmp_path), images.Spec(1), "t")
    assert caught.value.hint == "apt-get install busybox-static"
