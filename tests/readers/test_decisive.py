"""The part of a long message that is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonami.readers.decisive import decisive

# Synthetic, put together as runc, the nvidia runtime and containerd do (gpu-operator #755).
HOOK = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: error running prestart hook #0: exit status 1, "
    "stdout: , stderr: /usr/local/nvidia/toolkit/nvidia-container-cli.real: /lib64/libc.so.6: version `GLIBC_2.27' not "
    "found (required by /usr/local/nvidia/toolkit/libnvidia-container.so.1): unknown"
)


@pytest.mark.parametrize("before", ["", "x" * 250 + ": ", "starting\nall is well\n" * 50])
def test_a_known_symptom_is_shown_wherever_it_stands(before: str) -> None:
    shown = decisive([before + HOOK])
    assert "version `GLIBC_2.27' not found" in shown
    assert len(shown) <= 300


def test_an_image_that_is_not_found_is_named_with_that() -> None:
    """As containerd says it: the image stands there four times, and "not found" only behind the last."""
    image = "registry.example/mirror/nvidia/driver:525.105.17-amzn2"
    said = (
        f'Failed to pull image "{image}": rpc error: code = NotFound desc = failed to pull and unpack image "{image}": '
        f'failed to resolve reference "{image}": {image}: not found'
    )
    assert decisive([said]).endswith("driver:525.105.17-amzn2: not found")


def test_a_known_symptom_is_shown_whichever_message_has_it() -> None:
    assert "GLIBC_2.27" in decisive(["Init failed somehow", HOOK])


def test_of_a_long_line_the_beginning_and_the_cause_at_its_end_are_shown() -> None:
    shown = decisive(["failed to start: " + "because: " * 100 + "the disk is full"])
    assert shown.startswith("failed to start: ") and shown.endswith("because: the disk is full")
    assert len(shown) <= 300


def test_of_many_lines_the_last_that_speaks_of_an_error_is_shown() -> None:
    log = "usage: tool\npanic: cannot open /dev/nvidiactl\n\ngoroutine 1 [running]:\nmain.main()\n"
    assert decisive([log]) == "panic: cannot open /dev/nvidiactl"
    assert decisive(["one\ntwo\n"]) == "two"
    assert decisive(["", "second"]) == "second"
    assert decisive([]) == ""


@given(st.lists(st.text() | st.text().map(lambda each: each + HOOK), max_size=4), st.integers(20, 400))
def test_whatever_stands_in_it_one_short_line_without_control_characters_comes_out(
    texts: list[str], limit: int
) -> None:
    shown = decisive(texts, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert shown or not any(each.strip() for each in texts)


def test_a_huge_line_costs_little() -> None:
    assert decisive(["version `GLIBC_2.2 " * 500_000 + HOOK]).count("GLIBC_2.27")
