"""Image lists: references as registries and containerd read them, and what a list may not say."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami import datafiles, imagelist
from leptonami.errors import InputError
from leptonami.imagelist import Image, ecr_registry, is_private_ecr, reference
from leptonami.validation import Wrong
from leptonami.yamlfile import FileError

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def write(tmp_path: Path, images: str) -> Path:
    path = tmp_path / "images.yaml"
    path.write_text(f"schema: 1\nimages:\n{images}")
    return path


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("nvidia/cuda:12.6.3-base", "docker.io/nvidia/cuda:12.6.3-base"),
        ("index.docker.io/a/b:1", "docker.io/a/b:1"),
        ("localhost/a:1", "localhost/a:1"),
        ("localhost:5000/a:1", "localhost:5000/a:1"),
        ("Registry.Example.com/a/b:V1", "registry.example.com/a/b:V1"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("nvcr.io/nvidia/k8s/dcgm-exporter:4.3.1-4.4.0-ubuntu22.04", None),
        ("[fd00::1]:5000/a:1", None),
        ("a/b__c/d.e-f--g:1", "docker.io/a/b__c/d.e-f--g:1"),
        (f"quay.io/a/b@{A}", None),
        (f"quay.io/a/b:1@{A}", "quay.io/a/b:1"),
    ],
)
def test_references_are_written_out_in_full(text: str, full: str | None) -> None:
    assert str(reference(text)) == (full or text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nginx",
        "quay.io/a/b",
        "quay.io/A/b:1",
        "quay.io/a/b:",
        "quay.io/a/b:-1",
        "quay.io/a/b:" + "x" * 129,
        "quay.io/a//b:1",
        "quay.io/:1",
        "quay.io/a/b:1 ",
        "https://quay.io/a/b:1",
        "quay.io/a/b@sha256:abc",
        "quay.io/a/b@sha256:" + "A" * 64,
        "quay.io/a..b:1",
        "quay.io/a_-b:1",
        "-quay.io/a:1",
        "quay.io:999999/a:1",
        "quay.io/" + "a" * 255 + ":1",
        "quay.io/$(id):1",
        "quay.io/a;id:1",
        "a:1:2",
        "--all-platforms",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(Wrong):
        reference(text)


@settings(max_examples=300)
@given(st.text(max_size=40) | st.from_regex(r"[a-z.]{1,8}(/[a-zA-Z_.-]{1,6}){0,2}(:[a-z0-9._-]{0,5})?", fullmatch=True))
def test_a_reference_is_stable_or_wrong(text: str) -> None:
    try:
        found = str(reference(text))
    except Wrong:
        return
    assert str(reference(found)) == found
    # They end up in shell arrays and in options of ctr: nothing in them may mean anything there.
    assert not set(found) & set(" \t\n'\"\\$`;&|<>(){}*?!#~")
    assert not found.startswith("-")


@pytest.mark.parametrize(
    ("ref", "registry"),
    [
        ("123456789012.dkr.ecr.us-west-2.amazonaws.com/a:1", ("123456789012", "us-west-2")),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com/a:1", ("123456789012", "us-gov-west-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/a:1", ("123456789012", "cn-north-1")),
        ("123456789012.dkr-ecr.eu-central-1.on.aws/a:1", ("123456789012", "eu-central-1")),
        ("public.ecr.aws/a/b:1", None),
        ("123456789012.dkr.ecr.us-west-2.amazonaws.com.example.com/a:1", None),
        ("x123456789012.dkr.ecr.us-west-2.amazonaws.com/a:1", None),
        ("docker.io/123456789012.dkr.ecr.us-west-2.amazonaws.com/a:1", None),
    ],
)
def test_private_ecr_is_recognised_by_its_whole_host(ref: str, registry: tuple[str, str] | None) -> None:
    assert ecr_registry(ref) == registry
    assert is_private_ecr(ref) is (registry is not None)


def test_a_list_is_resolved_for_an_architecture(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"""
  - registry.k8s.io/pause:3.10
  - ref: nvcr.io/nvidia/cuda:12.6.3-base
    digest: {{amd64: {A}, arm64: {B}}}
    size: {{compressed_mib: 100, unpacked_mib: 300}}
    also_tagged: [example.com/cuda:12]
  - ref: quay.io/a/b:1@{A}
    architectures: [arm64]
    size: unknown
""",
    )
    found = imagelist.load(path)
    pause = Image("registry.k8s.io/pause:3.10", None, None, None)
    assert found.images("amd64") == (
        pause,
        Image("nvcr.io/nvidia/cuda:12.6.3-base", A, 100, 300, ("example.com/cuda:12",)),
    )
    assert [image.digest for image in found.images("arm64")] == [None, B, A]
    assert found.warnings == ()


def test_the_same_name_may_stand_for_each_architecture_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "  - {ref: 'quay.io/a/b:1', architectures: [amd64]}\n  - {ref: 'quay.io/a/b:1', architectures: [arm64]}\n",
    )
    assert len(imagelist.load(path).images("arm64")) == 1


def test_latest_is_warned_about_unless_its_digest_is_named(tmp_path: Path) -> None:
    found = imagelist.load(write(tmp_path, f"  - quay.io/a/b:latest\n  - quay.io/a/c:latest@{A}\n"))
    assert len(found.warnings) == 1
    assert "images.yaml:3: quay.io/a/b:latest has the tag `latest`" in found.warnings[0]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("  - quay.io/a/b\n", "images.yaml:3 images[0]: 'quay.io/a/b' has neither tag nor digest"),
        ("  - 1.30\n", "images.yaml:3 images[0]"),
        ("  - {ref: 1.30}\n", 'write "1.30"'),
        ("  - {ref: 'a:1', digset: x}\n", "did you mean digest?"),
        ("  - {ref: 'a:1', digest: sha256:abc}\n", "images[0].digest: not a digest: sha256:abc"),
        ("  - {ref: 'a:1', digest: {amd46: x}}\n", "unknown architecture 'amd46'"),
        ("  - {ref: 'a:1', digest: [x]}\n", "images[0].digest: not a digest"),
        ("  - {ref: 'a:1', architectures: [x86_64]}\n", "images[0].architectures[0]: 'x86_64' is not allowed"),
        ("  - {ref: 'a:1', architectures: []}\n", "images[0].architectures: empty"),
        ("  - {ref: 'a:1', size: {compressed_mib: -1}}\n", "images[0].size.compressed_mib: -1 is too small"),
        ("  - {ref: 'a:1', size: {compressed_mib: 1.5}}\n", "1.5 is no whole number"),
        ("  - {ref: 'a:1', size: {compressed_mib: '5'}}\n", "write it without quotes: 5"),
        ("  - {ref: 'a:1', size: huge}\n", "images[0].size: 'huge', where a mapping is wanted"),
        (f"  - {{ref: 'a:1', also_tagged: ['b@{A}']}}\n", "a further name must be a tag"),
        ("  - a:1\n  - docker.io/library/a:1\n", "images[1]: docker.io/library/a:1 is already on line 3"),
        ("  - a:1\n  - {ref: 'b:1', also_tagged: ['a:1']}\n", "images[1]: docker.io/library/a:1 is already on line 3"),
        (f"  - {{ref: 'a:1@{A}', digest: '{B}'}}\n", "and its `digest` differ"),
        (
            "  - {ref: 'a:1', architectures: [amd64], digest: {arm64: '" + A + "', amd64: '" + B + "'}}\n",
            "not listed for",
        ),
        ("  - {}\n", "images[0].ref: missing key 'ref'"),
        ("  []\n", "images"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, images: str, expected: str) -> None:
    with pytest.raises(FileError) as caught:
        imagelist.load(write(tmp_path, images))
    error = caught.value
    assert expected in f"{error} {error.hint}"


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        imagelist.load(write(tmp_path, "  - a\n  - {ref: 'b:1', digset: x}\n  - 1:30\n"))
    assert [problem.where.rpartition(":")[2] for problem in caught.value.problems] == ["3", "4", "5"]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_give_a_list_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("list") / "images.yaml"
    path.write_bytes(b"schema: 1\nimages:\n- " + raw)
    with contextlib.suppress(InputError):
        imagelist.load(path)


@pytest.mark.parametrize("path", sorted(datafiles.path("images").glob("*.yaml")), ids=lambda path: path.name)
def test_every_list_we_ship_is_sound(path: Path) -> None:
    found = imagelist.load(path)
    assert found.warnings == ()
    for architecture in ("amd64", "arm64"):
        assert found.images(architecture)
        for image in found.images(architecture):
            assert (image.unpacked_mib or 0) >= (image.size_mib or 0)
