"""Stop sequences are cut off wherever the pieces of the text are cut."""

from hypothesis import given
from hypothesis import strategies as st

from app.inference.stops import StopFilter

TEXT = st.text("abc", max_size=30)


def expected(text: str, stops: list[str]) -> str:
    """The text before the stop sequence that is complete first."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(st.lists(TEXT), st.lists(st.text("abc", min_size=1, max_size=5), max_size=4))
def test_the_answer_ends_before_the_first_complete_stop_sequence(pieces: list[str], stops: list[str]):
    stop_filter = StopFilter(stops)
    passed = "".join(stop_filter.feed(piece) for piece in pieces)
    whole = "".join(pieces)
    assert passed + ("" if stop_filter.stopped else stop_filter.flush()) == expected(whole, stops)
    assert stop_filter.stopped == any(stop in whole for stop in stops)


def test_text_that_can_not_begin_a_stop_sequence_is_not_held_back():
    stop_filter = StopFilter(["END"])
    assert stop_filter.feed("An answer") == "An answer"
    assert stop_filter.feed(" E") == " "
    assert stop_filter.feed("nough") == "Enough"
