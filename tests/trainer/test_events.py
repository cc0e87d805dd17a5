"""The events file has whole lines alone, whatever the writer or the disk came to."""

from pathlib import Path

import pytest

from trainer.__main__ import _no_room
from trainer.spec.events import EventWriter, MessageEvent, read_events


def texts(path: Path) -> list[str]:
    return [event.message for event, _ in read_events(path) if isinstance(event, MessageEvent)]


@pytest.mark.parametrize("torn", [b'{"type": "mess', b"x" * 200_000], ids=["short", "longer than a block"])
def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.write(MessageEvent(message="one"))
    with path.open("ab") as file:
        file.write(torn)
    with EventWriter(path) as writer:
        writer.write(MessageEvent(message="two"))
    assert texts(path) == ["one", "two"]
    path.write_bytes(torn)
    with EventWriter(path) as writer:
        writer.write(MessageEvent(message="three"))
    assert texts(path) == ["three"]


def test_a_line_that_the_disk_takes_half_of_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.write(MessageEvent(message="one"))
        file = writer._file
        full = OSError(28, "No space left on device")

        class Full:
            """A file whose disk has room for ten bytes more."""

            room = 10

            def write(self, data: memoryview) -> int:
                if not self.room:
                    raise full
                taken, self.room = file.write(data[: self.room]), 0
                return taken

            def __getattr__(self, name: str) -> object:
                return getattr(file, name)

        monkeypatch.setattr(writer, "_file", Full())
        with pytest.raises(OSError, match="No space left"):
            writer.write(MessageEvent(message="two"))
        monkeypatch.setattr(writer, "_file", file)
        writer.write(MessageEvent(message="three"))
    assert texts(path) == ["one", "three"]


def test_a_full_disk_is_known_by_its_number_or_its_words() -> None:
    assert _no_room(OSError(28, "whatever"))
    assert _no_room(RuntimeError("SafetensorError: No space left on device (os error 28)"))
    outer = RuntimeError("saving failed")
    outer.__cause__ = OSError(122, "Disk quota exceeded")
    assert _no_room(outer)
    assert not _no_room(OSError(5, "Input/output error"))
