"""What a large upload costs: ``python -m benchmarks.upload --megabytes 1024``.

Streams a JSONL file to the API as ``policysplit api`` runs it, on SQLite and loopback, and prints how long it
took until every line was checked and the row committed, and by how much the most memory that the process ever
had (VmHWM, Linux) grew.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.api import service
from benchmarks.load.servers import our_api

_BOUNDARY = "policysplit"
_HEAD = (
    f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="large.jsonl"\r\n\r\n'
).encode()
_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the file, 2**20 bytes each")
    parser.add_argument("--line", type=int, default=2000, help="characters of a line's message")
    options = parser.parse_args()
    row = {"messages": [{"role": "user", "content": "x" * options.line}], "answer": "1", "level": 3}
    line = json.dumps(row).encode() + b"\n"
    lines = (options.megabytes << 20) // len(line)
    with service("sqlite") as (folder, url), our_api(folder, url) as (api, pid):
        upload(api, line, 1)  # what the first upload imports is not the file's
        before, began = peak_bytes(pid), time.perf_counter()
        answer = upload(api, line, lines)
        seconds, grown = time.perf_counter() - began, peak_bytes(pid) - before
    assert answer["rows"] == lines
    megabytes = answer["bytes"] / (1 << 20)
    print(
        f"{megabytes:.0f} MiB, {lines:,} lines: {seconds:.1f} s ({megabytes / seconds:.0f} MiB/s), "
        f"peak memory {before / (1 << 20):.0f} → {(before + grown) / (1 << 20):.0f} MiB"
    )


def upload(api: str, line: bytes, lines: int) -> dict[str, int]:
    """Send a file of so many lines, made while it is sent; the file object."""
    at_once = max(1, (1 << 20) // len(line))

    def body() -> Iterator[bytes]:
        yield _HEAD
        for start in range(0, lines, at_once):
            yield line * min(at_once, lines - start)
        yield _TAIL

    headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    answer = httpx.post(f"{api}/v1/files", content=body(), headers=headers, timeout=600)
    return answer.raise_for_status().json()


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = [one for one in lines if one.startswith("VmHWM")]
    return int(found.split()[1]) * 1024


if __name__ == "__main__":
    main()
