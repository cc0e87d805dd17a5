"""What a model says is shown in a terminal, never obeyed."""

import io

import pytest
from rich.panel import Panel
from rich.text import Text

from app.cli.console import VisibleConsole, visible

EVIL = "a\x1b]0;title\x07\x1b[2J\r\x08\x7f\x9b31mb\u202e"


@pytest.mark.parametrize("terminal", [True, False])
def test_no_control_character_of_a_text_reaches_the_terminal(terminal: bool):
    for one in (EVIL, Text(EVIL), Panel(Text(EVIL)), Panel("x", title=EVIL)):
        written = io.StringIO()
        VisibleConsole(file=written, force_terminal=terminal, width=60, color_system=None).print(
            one, markup=False
        )
        text = written.getvalue()
        assert not set(text) & set("\x1b\x07\r\x08\x7f\x9b\u202e"), repr(text)
        assert "␛" in text and "a" in text and "b" in text


def test_colours_of_our_own_and_lines_stay():
    written = io.StringIO()
    VisibleConsole(file=written, force_terminal=True, color_system="standard").print("[red]x[/]\n\ty")
    assert "\x1b[31mx" in written.getvalue()
    assert visible("one\ntwo\tthree é 😀") == "one\ntwo\tthree é 😀"
