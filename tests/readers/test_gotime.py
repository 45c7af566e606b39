"""Go's durations and times, against examples of Go's own documentation and values of the recorded logs."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonami.readers.gotime import parse_duration, parse_rfc3339, parse_time


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0s", 0),
        ("0", 0),
        ("3m45.769776521s", 225_769_776),
        ("1h2m3s", 3_723_000_000),
        ("-3595.39s", -3_595_390_000),
        ("10.215µs", 10),
        ("10.215μs", 10),
        ("7us", 7),
        ("999ns", 0),
        ("1.5h", 5_400_000_000),
        ("+5m0s", 300_000_000),
        (".5s", 500_000),
        ("2562047h47m16.854775807s", 9_223_372_036_854_775),
        ("15m0s", 900_000_000),
        ("1m500ms", 60_500_000),
    ],
)
def test_durations(text, micros):
    assert parse_duration(text) == timedelta(microseconds=micros)
    assert parse_duration(text.encode()) == timedelta(microseconds=micros)


@pytest.mark.parametrize(
    "text", ["", "-", "5", "5 m", "m", ".s", "1h2", "5m ", "1d", "٣s", "9" * 30 + "s", "2562048h", "1s" * 40, "--1s"]
)
def test_what_is_no_duration(text):
    assert parse_duration(text) is None


@given(st.integers(-(10**15), 10**15))
def test_a_duration_written_as_go_does_comes_back(micros):
    sign, rest = ("-", -micros) if micros < 0 else ("", micros)
    hours, rest = divmod(rest, 3_600_000_000)
    minutes, rest = divmod(rest, 60_000_000)
    seconds, fraction = divmod(rest, 1_000_000)
    assert parse_duration(f"{sign}{hours}h{minutes}m{seconds}.{fraction:06d}s") == timedelta(microseconds=micros)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2023-06-24 20:38:45.129539464 +0000 UTC m=+318.403015344", datetime(2023, 6, 24, 20, 38, 45, 129539, UTC)),
        ("2023-06-24 19:33:31.329619534 +0000 UTC m=-3595.396904579", datetime(2023, 6, 24, 19, 33, 31, 329619, UTC)),
        ("2023-06-24 22:38:45 +0200 CEST", datetime(2023, 6, 24, 20, 38, 45, tzinfo=UTC)),
        ("2023-06-24 22:38:45.5 +0530 +0530", datetime(2023, 6, 24, 17, 8, 45, 500000, UTC)),
        ("2023-06-24 22:38:45 -0330", datetime(2023, 6, 25, 2, 8, 45, tzinfo=UTC)),
        ("0001-01-01 00:00:00 +0000 UTC", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times(text, time):
    assert parse_time(text) == time
    assert parse_time(text.encode()) == time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023-06-24",
        "2023-02-30 00:00:00 +0000 UTC",
        "0000-01-01 00:00:00 +0000 UTC",
        "2023-06-24 25:00:00 +0000 UTC",
        "2023-06-24 20:38:45 +9900 UTC",
        "2023-06-24 20:38:45 +0000 UTC and more",
        "x2023-06-24 20:38:45 +0000 UTC",
    ],
)
def test_what_is_no_time(text):
    assert parse_time(text) is None


def test_the_offset_is_kept():
    time = parse_time("2023-06-24 22:38:45 +0200 CEST")
    assert time is not None
    assert time.tzinfo == timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2023-06-24T20:42:30.904516789Z", datetime(2023, 6, 24, 20, 42, 30, 904516, UTC)),
        ("2023-06-24T22:42:30+02:00", datetime(2023, 6, 24, 20, 42, 30, tzinfo=UTC)),
        ("2023-06-24T22:42:30+0200", datetime(2023, 6, 24, 20, 42, 30, tzinfo=UTC)),
        ("2023-06-24T22:42:30,5Z", datetime(2023, 6, 24, 22, 42, 30, 500000, UTC)),
    ],
)
def test_rfc3339(text, time):
    assert parse_rfc3339(text) == time


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_arbitrary_text_gives_a_value_or_nothing(text):
    assert parse_duration(text) is None or isinstance(parse_duration(text), timedelta)
    assert parse_time(text) is None or isinstance(parse_time(text), datetime)
    assert parse_rfc3339(text) is None or isinstance(parse_rfc3339(text), datetime)


@given(st.datetimes(), st.integers(-23 * 60, 23 * 60))
def test_times_come_back(naive, minutes):
    time = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_rfc3339(time.isoformat()) == time
    sign, offset = ("-", -minutes) if minutes < 0 else ("+", minutes)
    day = f"{naive.year:04d}-{naive.month:02d}-{naive.day:02d}"
    text = f"{day} {naive:%H:%M:%S.%f} {sign}{offset // 60:02d}{offset % 60:02d} UTC"
    assert parse_time(text) == time
