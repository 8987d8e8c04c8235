"""Go durations: what is read, what is refused, and the way back."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quaymaster.domain.durations import format_duration, parse_duration

YEAR = timedelta(days=366)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1000s", timedelta(seconds=1000)),
        ("120m", timedelta(hours=2)),
        ("1h10m", timedelta(minutes=70)),
        ("1.5h", timedelta(minutes=90)),
        (".5s", timedelta(milliseconds=500)),
        ("1m1s1ms", timedelta(seconds=61, milliseconds=1)),
        ("250us", timedelta(microseconds=250)),
        ("250µs", timedelta(microseconds=250)),
        ("8784h", YEAR),
    ],
)
def test_go_durations_are_read(text: str, span: timedelta):
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "7 m",
        "m",
        "7M",
        "-7m",
        "+7m",
        "1h-1m",
        "7m ",
        "1d",
        "0s",
        "0h0m",
        "1ns",
        "8784h1s",
        "9" * 60 + "h",
        "\u0661m",
    ],
)
def test_what_is_no_duration_or_means_nothing_is_refused(text: str):
    with pytest.raises(ValueError, match=r"duration|longer than"):
        parse_duration(text)


def test_a_refusal_repeats_no_more_than_it_must():
    with pytest.raises(ValueError, match="duration") as caught:
        parse_duration("1" * 10_000 + "s")
    assert len(str(caught.value)) < 150


@given(st.timedeltas(timedelta(microseconds=1), YEAR))
def test_what_is_written_reads_back_as_the_same_span(span: timedelta):
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(minutes=7), "7m"),
        (timedelta(minutes=70), "1h10m"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(milliseconds=1500), "1.5s"),
        (timedelta(0), "0s"),
    ],
)
def test_spans_are_written_short(span: timedelta, text: str):
    assert format_duration(span) == text


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str):
    try:
        span = parse_duration(text)
    except ValueError:
        return
    assert timedelta(0) < span <= YEAR
