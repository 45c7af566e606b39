"""The year and the zone of stamps without either. The stamps are synthetic, the clock reading is a recorded one."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.klogline import Stamp
from leptonami.readers.years import Calendar, From, plain

HOUR = 3_600_000_000
READING = b"is unneeded since 2023-06-24 20:38:45.129539464 +0000 UTC m=+318.403015344 duration 3m45s"


def stamp_of(at: datetime) -> Stamp:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return Stamp(at.month, at.day, (at - midnight) // timedelta(microseconds=1))


def test_nothing_known_says_so_and_keeps_the_order():
    calendar = Calendar()
    turns = [calendar.feed(each) for each in (Stamp(12, 31, 0), Stamp(1, 1, HOUR))]
    times = [calendar.resolve(Stamp(12, 31, 0), turns[0]), calendar.resolve(Stamp(1, 1, HOUR), turns[1])]
    assert calendar.known is From.UNKNOWN
    assert calendar.zone_known is From.UNKNOWN
    assert times[1] - times[0] == timedelta(hours=25)
    assert plain(times[0]) == "12-31 00:00:00"


def test_the_given_year_is_that_of_the_first_line():
    calendar = Calendar(year=2023)
    assert [calendar.feed(Stamp(12, 31, 0)), calendar.feed(Stamp(1, 1, 0))] == [0, 1]
    assert calendar.resolve(Stamp(12, 31, 0)) == datetime(2023, 12, 31, tzinfo=UTC)
    assert calendar.resolve(Stamp(1, 1, 0)) == datetime(2024, 1, 1, tzinfo=UTC)
    assert calendar.known is From.GIVEN


def test_disorder_around_new_year_is_no_new_year():
    calendar = Calendar(year=2023)
    stamps = [Stamp(12, 31, 1), Stamp(1, 1, 0), Stamp(12, 31, 2), Stamp(1, 1, 1), Stamp(12, 30, 5), Stamp(1, 2, 0)]
    assert [calendar.feed(each) for each in stamps] == [0, 1, 0, 1, 0, 1]


def test_a_log_that_begins_out_of_order_at_new_year():
    calendar = Calendar(year=2024)
    stamps = [Stamp(1, 1, 0), Stamp(12, 31, 0)]
    assert [calendar.feed(each) for each in stamps] == [0, -1]
    assert calendar.resolve(stamps[1], -1) == datetime(2023, 12, 31, tzinfo=UTC)


def test_small_jumps_back_and_long_gaps_stay_in_the_year():
    calendar = Calendar(year=2023)
    stamps = [Stamp(3, 5, 0), Stamp(3, 4, 0), Stamp(10, 20, 0), Stamp(9, 1, 0), Stamp(12, 31, 0)]
    assert [calendar.feed(each) for each in stamps] == [0] * 5


@pytest.mark.parametrize(
    ("reference", "stamps", "year"),
    [
        (datetime(2023, 6, 24, 21, tzinfo=UTC), [Stamp(6, 24, 20 * HOUR)], 2023),
        (datetime(2023, 6, 24, 10, tzinfo=UTC), [Stamp(6, 24, 20 * HOUR)], 2023),  # another zone
        (datetime(2023, 6, 1, tzinfo=UTC), [Stamp(6, 24, 20 * HOUR)], 2022),
        (datetime(2024, 3, 1, tzinfo=UTC), [Stamp(1, 1, 0), Stamp(6, 1, 0)], 2023),  # by the last line, not the first
        (datetime(2024, 1, 1, tzinfo=UTC), [Stamp(12, 30, 0), Stamp(1, 1, 0)], 2023),
        (datetime(2023, 12, 31, 20, tzinfo=timezone(timedelta(hours=-8))), [Stamp(1, 1, 3 * HOUR)], 2024),
        (datetime(2026, 6, 1, tzinfo=UTC), [Stamp(2, 29, 0)], 2024),  # only a leap year has the day
    ],
)
def test_the_last_line_is_not_after_the_reference(reference, stamps, year):
    calendar = Calendar(reference=reference)
    turns = [calendar.feed(each) for each in stamps]
    assert calendar.known is From.REFERENCE
    assert calendar.resolve(stamps[0], turns[0]).year == year


def test_a_clock_reading_in_a_message_tells_year_and_zone():
    calendar = Calendar(reference=datetime(2026, 1, 1, tzinfo=UTC))
    stamp = Stamp(6, 24, 20 * HOUR)
    calendar.listen(READING, stamp, calendar.feed(stamp))
    assert (calendar.known, calendar.zone_known) == (From.MESSAGE, From.MESSAGE)
    assert calendar.resolve(stamp) == datetime(2023, 6, 24, 20, tzinfo=UTC)
    zoned = Calendar()
    zoned.listen(
        READING.replace(b"20:38:45", b"22:38:45").replace(b"+0000 UTC", b"+0200 CEST"), stamp, zoned.feed(stamp)
    )
    assert zoned.zone == timezone(timedelta(hours=2))
    assert zoned.resolve(stamp) == datetime(2023, 6, 24, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    "message",
    [
        b"Certificate expiration is 2024-06-24 20:41:00 +0000 UTC",  # of a year later, and no clock reading
        b"lastScaleUpTime=2021-01-05 19:33:31.3 +0000 UTC m=-3595.396904579",  # not near the line
        b"0001-01-01 00:00:00 +0000 UTC m=+0.1",
        b"9999-12-31 23:59:59 -2359 X m=+1.0",
        b"a m=b",
        b"2023-06-31 00:00:00 +0000 UTC m=+0.1",
    ],
)
def test_other_times_prove_nothing(message):
    calendar = Calendar()
    stamp = Stamp(6, 24, 20 * HOUR)
    calendar.listen(message, stamp, calendar.feed(stamp))
    assert calendar.known is From.UNKNOWN


def test_the_majority_of_hints_counts():
    calendar = Calendar()
    stamp = Stamp(6, 24, 0)
    turn = calendar.feed(stamp)
    for year in (2022, 2023, 2023):
        assert calendar.hint(datetime(year, 6, 24, tzinfo=UTC), stamp, turn)
    assert calendar.first_year == 2023


def test_prefixes_tell_the_zone_and_come_before_messages():
    calendar = Calendar()
    stamp = Stamp(6, 24, 20 * HOUR)
    turn = calendar.feed(stamp)
    calendar.listen(READING, stamp, turn)
    calendar.hint(datetime(2024, 6, 24, 14, 30, 0, 700, UTC), stamp, turn)
    assert (calendar.known, calendar.first_year) == (From.PREFIX, 2024)
    assert calendar.zone == timezone(timedelta(hours=5, minutes=30))
    assert calendar.resolve(stamp) == datetime(2024, 6, 24, 14, 30, tzinfo=UTC)


def test_a_hint_across_new_year():
    calendar = Calendar()
    stamp = Stamp(12, 31, 23 * HOUR)
    turn = calendar.feed(stamp)
    calendar.hint(datetime(2024, 1, 1, 1, tzinfo=UTC), stamp, turn)
    assert calendar.first_year == 2023


def test_curiosity_ends():
    assert not Calendar(year=2023, zone=UTC).curious
    calendar = Calendar(year=2023)
    assert calendar.curious
    stamp = Stamp(6, 24, 0)
    for _ in range(64):
        calendar.hint(datetime(2023, 6, 24, tzinfo=UTC), stamp, calendar.feed(stamp))
    assert not calendar.curious


def test_settled_answers_stay():
    calendar = Calendar(reference=datetime(2023, 6, 25, tzinfo=UTC))
    stamp = Stamp(6, 24, 0)
    turn = calendar.feed(stamp)
    calendar.settle()
    calendar.hint(datetime(2021, 6, 24, tzinfo=UTC), stamp, turn)
    assert calendar.resolve(stamp).year == 2023


def test_a_day_that_the_given_year_has_not():
    calendar = Calendar(year=2023)
    assert calendar.resolve(Stamp(2, 29, 0), calendar.feed(Stamp(2, 29, 0))) is None


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)),
    st.lists(st.floats(0, 170), min_size=1, max_size=30),
    st.floats(0, 150),
)
def test_times_come_back_from_their_stamps(start, gaps, late):
    """A log with gaps of less than half a year, whose file was last touched less than half a year after its end."""
    times = []
    at = start.replace(tzinfo=UTC)
    for gap in gaps:
        at += timedelta(days=gap)
        times.append(at)
    calendar = Calendar(reference=times[-1] + timedelta(days=late))
    turns = [calendar.feed(stamp_of(each)) for each in times]
    assert [calendar.resolve(stamp_of(each), turn) for each, turn in zip(times, turns, strict=True)] == times


stamps = st.builds(
    lambda day, micros: (stamp_of(datetime(2024, 1, 1) + timedelta(days=day))[:2], micros),
    st.integers(0, 365),
    st.integers(0, 86_399_999_999),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(stamps, max_size=30),
    st.none() | st.integers(1, 9999),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.lists(st.datetimes(timezones=st.just(UTC)), max_size=3),
)
def test_any_stamps_give_times_or_nothing(days, year, reference, hints):
    calendar = Calendar(year=year, reference=reference)
    for (month, day), micros in days:
        stamp = Stamp(month, day, micros)
        turn = calendar.feed(stamp)
        for each in hints:
            calendar.hint(each, stamp, turn)
        at = calendar.resolve(stamp, turn)
        assert at is None or (at.month, at.day) == (month, day)
        calendar.resolve(stamp)
