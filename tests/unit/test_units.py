import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.units import GiB, MiB, format_bytes, format_count, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (98_362_432, "93.8 MiB"),
        (1024 * MiB - 1, "1.00 GiB"),
        (int(1.5 * GiB), "1.50 GiB"),
        (-2 * GiB, "-2.00 GiB"),
    ],
)
def test_bytes_read_as_people_write_them(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [("1.5GiB", 1_610_612_736), ("800 MB", 800_000_000), ("4g", 4_000_000_000), ("17", 17)],
)
def test_amounts_people_type(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1GB", "1 GiBs", "1.2.3", "lots"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount of memory"):
        parse_bytes(text)


@given(st.integers(0, 1 << 60))
def test_what_is_printed_is_within_one_percent(count: int) -> None:
    text = format_bytes(count)
    assert abs(parse_bytes(text) - count) <= max(1, count * 0.006)


def test_counts_and_times() -> None:
    assert format_count(134_515_008) == "134.5 M"
    assert format_count(7_615_616_512) == "7.62 B"
    assert format_count(999) == "999"
    assert format_seconds(0.0123) == "12 ms"
    assert format_seconds(1.249) == "1.25 s"
    assert format_seconds(200) == "3 min 20 s"
