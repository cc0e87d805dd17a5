"""An engine server without a model, for tests of how engines are started, watched and ended.

It listens where the worker says, takes the command line and the requests of ``transformers serve``, is up in
a moment, and answers a conversation with words that depend on the folder, the messages and the seed alone, or
with what stands behind ``ECHO``. It computes for as long as a client listens, a word every few milliseconds,
and reads its model's config as a real one would. Told ``DEAF`` it answers nobody any more, though it lives.
"""

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

WORD_SECONDS = 0.004
ECHO = "Say: "
DEAF = "Listen no more."


def main() -> None:
    folder = Path(sys.argv[sys.argv.index("serve") + 1]).resolve()
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    if kind != "llama":
        raise ValueError(f"The model type {kind!r} is not known here")
    asyncio.run(serve(folder, os.environ["POLICYSPLIT_ENGINE_SOCKET"]))


async def serve(folder: Path, socket: str) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lengths = [line for line in head.splitlines() if line.lower().startswith("content-length:")]
                body = json.loads(
                    await reader.readexactly(int(lengths[0].split(":")[1])) if lengths else b"{}"
                )
                if body.get("messages", [{}])[-1].get("content") == DEAF:
                    server.close()
                    for one in writers:
                        one.close()
                    return
                await answer(folder, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_unix_server(handle, socket)
    await asyncio.Event().wait()


async def answer(folder: Path, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    if not body.get("stream"):  # the health check, and the barrier after a cancelled request
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        return
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    said = json.dumps([str(folder), body["messages"], body["seed"]])
    wanted = body["messages"][-1]["content"]
    if isinstance(wanted, str) and wanted.startswith(ECHO):
        words, reason = [wanted.removeprefix(ECHO)], "stop"
    else:
        count = json.loads(body["generation_config"])["max_new_tokens"]
        words = [hashlib.sha256(f"{said}{number}".encode()).hexdigest()[:6] + " " for number in range(count)]
        reason = "length"
    for word in words:
        await send(writer, {"choices": [{"index": 0, "delta": {"content": word}}]})
        await asyncio.sleep(WORD_SECONDS)  # what a token takes
    usage = {"prompt_tokens": len(said), "completion_tokens": len(words)}
    usage["total_tokens"] = sum(usage.values())
    await send(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage})
    writer.write(b"0\r\n\r\n")


async def send(writer: asyncio.StreamWriter, chunk: dict[str, Any]) -> None:
    data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()


if __name__ == "__main__":
    main()
