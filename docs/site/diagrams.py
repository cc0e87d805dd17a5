"""A sequence diagram in Mermaid's words, as a list: drawing it would take a script of 3 MB."""

import re

_PARTICIPANT = re.compile(r"\s*participant (\w+) as (.+)")
_ARROW = re.compile(r"\s*(\w+)-{1,2}[>)]{1,2}(\w+): (.+)")


def as_list(diagram: str) -> str:
    """Each arrow as a numbered line."""
    names: dict[str, str] = {}
    lines: list[str] = []
    for line in diagram.splitlines():
        if named := _PARTICIPANT.match(line):
            names[named[1]] = named[2].replace("<br/>", " ")
        elif arrow := _ARROW.match(line):
            sender, receiver = (names.get(one, one) for one in (arrow[1], arrow[2]))
            to = "" if sender == receiver else f" → {receiver}"
            lines.append(f"1. **{sender}{to}**: {arrow[3]}")
    return "\n".join(lines)
