import pytest
from hypothesis import given
from hypothesis import strategies as st

from snugly.chat.sse import MAX_EVENT_BYTES, EventStream

STREAM = (
    'data: {"a":"x\u2028y\u0085z"}\n\n: a comment\n\ndata: b\r\n\r\nevent: e\ndata:c\ndata: d\n\n'
)


@given(st.lists(st.integers(1, 40)))
def test_events_do_not_depend_on_how_bytes_arrive(cuts: list[int]) -> None:
    data, stream = STREAM.encode(), EventStream()
    events: list[str] = []
    for cut in cuts:
        piece, data = data[:cut], data[cut:]
        events += stream.feed(piece)
    events += stream.feed(data)
    assert events == ['{"a":"x\u2028y\u0085z"}', "b", "c\nd"]


def test_an_event_without_end_is_not_kept_for_ever() -> None:
    stream = EventStream()
    with pytest.raises(ValueError, match="longer than"):
        list(stream.feed(b"data: " + bytes(MAX_EVENT_BYTES)))
