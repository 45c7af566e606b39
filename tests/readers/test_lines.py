"""Lines out of blocks: the same lines however the bytes are cut, in bounded memory and linear time."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.leftover import Leftover
from leptonami.readers.lines import Lines, batches


def expected(data: bytes, longest: int) -> list[bytes]:
    """The definition, without regard to memory."""
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [line.removesuffix(b"\r")[:longest] for line in lines]


def flat(blocks, **options) -> list[bytes]:
    return [line for batch in batches(blocks, **options) for line in batch]


@st.composite
def cut_up(draw):
    data = draw(
        st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"long line"]), max_size=60)
    )
    whole = b"".join(data)
    edges = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    blocks = [whole[a:b] for a, b in zip([0, *edges], [*edges, len(whole)], strict=True)]
    return whole, blocks


@settings(max_examples=300, deadline=None)
@given(cut_up(), st.integers(1, 12))
def test_any_cutting_gives_the_same_lines(case, longest):
    whole, blocks = case
    count = Lines()
    assert flat(blocks, longest=longest, lines=count) == expected(whole, longest)
    uncut = expected(whole, len(whole) + 1)
    assert count.lines == len(uncut)
    assert count.bytes == len(whole)
    too_long = [number for number, line in enumerate(uncut, 1) if len(line) > longest]
    assert count.cut == len(too_long)
    assert count.first_cut == (too_long[0] if too_long else None)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 7))
def test_arbitrary_bytes(data, size):
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    assert flat(blocks) == expected(data, 1 << 20)


def test_nothing_gives_nothing():
    assert list(batches([])) == []
    assert list(batches([b"", b""])) == []


def test_no_batch_is_empty():
    assert all(list(batches([b"a", b"\n", b"b\n", b"\n"])))


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="one byte"):
        list(batches([b"a"], longest=0))


@pytest.mark.timeout(60)
def test_one_line_of_twenty_megabytes_in_small_blocks():
    count = Lines()
    blocks = (b"x" * 64 for _ in range(20 * (1 << 20) // 64))
    lines = flat(blocks, longest=1000, lines=count)
    assert lines == [b"x" * 1000]
    assert (count.lines, count.cut, count.bytes) == (1, 1, 20 << 20)


@pytest.mark.timeout(60)
def test_one_long_line_that_is_kept_whole():
    """Quadratic concatenation would copy some 3 TB here."""
    blocks = (b"y" * 64 for _ in range(20 * (1 << 20) // 64))
    (line,) = flat(blocks, longest=32 << 20)
    assert len(line) == 20 << 20


def test_memory_is_bounded_by_the_block_and_the_longest_line():
    block = b"z" * (1 << 16)
    tracemalloc.start()
    try:
        for batch in batches(block for _ in range(400)):  # 26 MB without a line end
            assert len(batch[0]) == 1 << 20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


def test_leftover_keeps_the_first_and_counts_all():
    left = Leftover(keep=2)
    assert not left
    for number in range(1, 6):
        left.add(number, b"line \xff" + b"x" * 10_000)
    assert left
    assert left.total == 5
    assert [number for number, _ in left.kept] == [1, 2]
    assert all(len(text) == 400 for _, text in left.kept)
    assert [proof.place for proof in left.proofs("a.log")] == ["line 1", "line 2"]
    assert left.as_dict()["total"] == 5
