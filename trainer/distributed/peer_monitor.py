"""Ranks notice at once when one of them has ended, whatever they are doing.

Each rank holds a TCP connection to the first. Nothing is said on it until a rank ends: then a farewell, or
why it failed; a process that dies says nothing, and its connection breaks. Collective operations alone would
not do: with NCCL they wait for a dead peer, and between them a rank may sample for minutes.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence

import torch.distributed as dist

FAREWELL = "\0"
#: What a rank has to notice the loss by itself, which makes a better end than being ended.
GRACE_SECONDS = 3.0
#: A machine without power breaks no connection: it is asked for after so many seconds of silence.
KEEPALIVE_SECONDS = 10
CONNECT_SECONDS = 60.0
#: In the environment: what this rank's host is called, where that is not the machine's name.
HOST = "POLICYSPLIT_RANK_HOST"


class PeerMonitor:
    """This rank's connections, each watched by a thread."""

    def __init__(
        self, peers: dict[int, socket.socket], on_lost: Callable[[str], None], hosts: Sequence[str] = ()
    ):
        self._peers, self._on_lost, self._hosts = peers, on_lost, hosts
        self._reason = ""
        self._lost, self._over = threading.Event(), threading.Event()
        for rank, peer in peers.items():
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
                if hasattr(socket, name):  # macOS names them otherwise
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEPALIVE_SECONDS)
            threading.Thread(target=self._watch, args=(rank, peer), name="peer-monitor", daemon=True).start()

    def reason(self) -> str | None:
        """Why another rank has ended; None when none has within the grace period."""
        return self._reason if self._lost.wait(GRACE_SECONDS) else None

    def close(self, last_words: str = FAREWELL) -> None:
        """Say farewell, or why this rank fails."""
        self._over.set()
        for peer in self._peers.values():
            try:
                peer.sendall(last_words.encode(errors="replace"))
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # that one has ended, too

    def _watch(self, rank: int, peer: socket.socket) -> None:
        said = b""
        with peer, contextlib.suppress(OSError):  # reset: as good as closed
            while more := peer.recv(65536):
                said += more
        if self._over.is_set() or said.decode(errors="replace") == FAREWELL:
            return
        if not self._lost.is_set():
            self._reason = said.decode(errors="replace") or f"{named(rank, self._hosts)} has died"
            self._lost.set()
        if not self._over.wait(GRACE_SECONDS):
            self._on_lost(self._reason)


def host_name() -> str:
    """What people are to know this rank's host by."""
    return os.environ.get(HOST) or socket.gethostname()


def named(rank: int, hosts: Sequence[str]) -> str:
    """A rank, with its host where that is known."""
    return f"rank {rank} on {hosts[rank]}" if hosts else f"rank {rank}"


def connect(rank: int, world: int, on_lost: Callable[[str], None]) -> PeerMonitor:
    """The connections of ``rank``, all to the first rank; collective (``trainer.distributed.ranks``)."""
    host = os.environ["MASTER_ADDR"]  # the first rank's machine
    port: list[int] = [0]
    hosts = [""] * world
    dist.all_gather_object(hosts, host_name())
    if rank == 0:
        with socket.create_server((host, 0), backlog=world) as server:
            server.settimeout(CONNECT_SECONDS)
            port = [server.getsockname()[1]]
            dist.broadcast_object_list(port, src=0)
            peers = {}
            for _ in range(world - 1):
                peer, _ = server.accept()
                peers[int.from_bytes(peer.recv(4, socket.MSG_WAITALL))] = peer
            return PeerMonitor(peers, on_lost, hosts)
    dist.broadcast_object_list(port, src=0)
    peer = socket.create_connection((host, port[0]), timeout=CONNECT_SECONDS)
    peer.settimeout(None)
    peer.sendall(rank.to_bytes(4))
    return PeerMonitor({0: peer}, on_lost, hosts)
