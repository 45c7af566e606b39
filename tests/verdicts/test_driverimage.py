"""Which driver image the operator asks for. Synthetic labels, after gpu-operator's code at v23.3.2 and of 2026."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.gpuoperands import parse_version
from leptonami.verdicts.driverimage import images_file, predict_driver_image, predict_for_cluster

ID = "feature.node.kubernetes.io/system-os_release.ID"
VERSION = "feature.node.kubernetes.io/system-os_release.VERSION_ID"
KERNEL = "feature.node.kubernetes.io/kernel-version.full"
CHART = ("nvcr.io/nvidia", "driver", "525.105.17")


@pytest.mark.parametrize(
    ("os", "image", "published"),
    [
        (("amzn", "2"), "nvcr.io/nvidia/driver:525.105.17-amzn2", False),  # the image of the original document
        (("amzn", "2023"), "nvcr.io/nvidia/driver:525.105.17-amzn2023", False),
        (("ubuntu", "20.04"), "nvcr.io/nvidia/driver:525.105.17-ubuntu20.04", True),
        (("ubuntu", "22.04"), "nvcr.io/nvidia/driver:525.105.17-ubuntu22.04", True),
        (("ubuntu", "23.10"), "nvcr.io/nvidia/driver:525.105.17-ubuntu23.10", None),
        (("ubuntu", "26.04"), "nvcr.io/nvidia/driver:525.105.17-ubuntu26.04", None),  # the list has none so old
        (("bottlerocket", "1.14"), "nvcr.io/nvidia/driver:525.105.17-bottlerocket1.14", False),
        (("nixos", "23.11"), "nvcr.io/nvidia/driver:525.105.17-nixos23.11", None),
    ],
)
def test_os(os: tuple[str, str], image: str, published: bool | None) -> None:
    found = predict_driver_image({ID: os[0], VERSION: os[1]}, *CHART)
    assert (found.image, found.published, found.alternatives) == (image, published, ())
    assert found.os == "".join(os)
    assert found.why


def test_new_ubuntu_has_new_drivers() -> None:
    assert predict_driver_image({ID: "ubuntu", VERSION: "26.04"}, "nvcr.io/nvidia", "driver", "595.91.07").published


@pytest.mark.parametrize(
    ("operator", "tags"),
    [("v23.3.2", ["rhel9.4"]), ("v26.7.0", ["rhel9"]), ("v24.9.0", ["rhel9", "rhel9.4"]), (None, ["rhel9", "rhel9.4"])],
)
def test_minor_version_depends_on_the_operator(operator: str | None, tags: list[str]) -> None:
    found = predict_driver_image({ID: "rhel", VERSION: "9.4"}, *CHART, operator=operator)
    assert [each.rpartition("-")[2] for each in (found.image, *found.alternatives)] == tags
    assert found.published is True


def test_digest_takes_no_suffix() -> None:
    for labels in ({ID: "amzn", VERSION: "2"}, {}):
        found = predict_driver_image(labels, "nvcr.io/nvidia", "driver", "sha256:abc")
        assert (found.image, found.published) == ("nvcr.io/nvidia/driver@sha256:abc", None)
    found = predict_driver_image({ID: "amzn", VERSION: "2"}, "", "nvcr.io/nvidia/driver@sha256:abc", "")
    assert found.image == "nvcr.io/nvidia/driver@sha256:abc"


def test_image_alone_may_be_the_whole_name() -> None:
    found = predict_driver_image({ID: "ubuntu", VERSION: "22.04"}, "", "nvcr.io/nvidia/driver:525.85.03", "")
    assert found.image == "nvcr.io/nvidia/driver:525.85.03-ubuntu22.04"


def test_precompiled() -> None:
    labels = {ID: "ubuntu", VERSION: "22.04", KERNEL: "5.15.0-105-generic"}
    found = predict_driver_image(labels, "nvcr.io/nvidia", "driver", "535", precompiled=True)
    assert found.image == "nvcr.io/nvidia/driver:535-5.15.0-105-generic-ubuntu22.04"


def test_missing_labels() -> None:
    found = predict_driver_image({ID: "ubuntu"}, *CHART)
    assert (found.image, found.published) == ("", None)
    assert VERSION in found.why


def test_a_registry_of_your_own_may_have_what_nvidia_has_not() -> None:
    found = predict_driver_image({ID: "amzn", VERSION: "2023"}, "registry.example/gpu", "driver", "550.1")
    assert (found.image, found.published) == ("registry.example/gpu/driver:550.1-amzn2023", None)


def test_mixed_cluster_gets_one_tag() -> None:
    """The first node of the list decides for all (v23.3.2, and the ClusterPolicy's path of 2026)."""
    nodes = [
        ("b", {ID: "ubuntu", VERSION: "22.04"}),
        ("a", {ID: "amzn", VERSION: "2"}),
        ("c", {ID: "amzn", VERSION: "2"}),
    ]
    found = predict_for_cluster(nodes, *CHART)
    assert found.winner == "a"
    assert found.image is not None and found.image.image.endswith("-amzn2")
    assert [(name, each.image.rpartition("-")[2]) for name, each in found.wrong] == [("b", "ubuntu22.04")]
    assert "amzn2 and ubuntu22.04" in found.note
    assert not predict_for_cluster(nodes, *CHART, per_pool=True).wrong
    # Who brings a driver pulls none; its OS may still be the one that the others get.
    for position in (0, 1):
        name, labels = nodes[position]
        brought = [
            *nodes[:position],
            (name, {**labels, "nvidia.com/gpu.deploy.driver": "pre-installed"}),
            *nodes[position + 1 :],
        ]
        assert name not in [each for each, _ in predict_for_cluster(brought, *CHART).wrong]
    assert not predict_for_cluster(nodes[1:], *CHART).wrong
    assert predict_for_cluster([], *CHART).image is None


def test_data() -> None:
    """The list names each family once, and its versions of the operator are versions."""
    data = images_file()
    ids = [each.id for each in data.families]
    assert len(ids) == len(set(ids))
    assert parse_version(data.omit_minor.not_up_to) < parse_version(data.omit_minor.surely_from)
    assert all(each.published is not False or each.note for each in data.families)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from([ID, VERSION, KERNEL]), st.text(max_size=12)),
    st.text(max_size=12),
    st.text(max_size=12),
    st.text(max_size=12),
    st.none() | st.text(max_size=12),
    st.booleans(),
)
def test_any_labels(
    labels: dict[str, str], repository: str, image: str, version: str, operator: str | None, precompiled: bool
) -> None:
    found = predict_driver_image(labels, repository, image, version, operator=operator, precompiled=precompiled)
    assert found.why
    predict_for_cluster([("a", labels), ("b", {})], repository, image, version, operator=operator).as_dict()
