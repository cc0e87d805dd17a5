"""The state of a sharded run, through ``torch.distributed.checkpoint``: ranks write and read their parts.

``state/step-N`` then holds ``__R_0.distcp`` of each rank R, the list of what is where, and ``state.json``:
the counters and the SHA-256 of each file, written last. The parts are copied to the host's memory and written
by a thread while training goes on; the folder appears when all of it is on the disk.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, distribute_tensor, empty

from trainer.distributed.sharding import host_mesh, own_part, part_of
from trainer.spec.manifest import file_sha256
from trainer.system.files import atomic_folder, give_name

#: torch's name begins with a dot, as what is not to be kept does elsewhere.
LIST, TORCHS_LIST = "parts.metadata", ".metadata"


class BackgroundSave:
    """Writes one state at a time beside the training. All of it is collective."""

    def __init__(self, group: dist.ProcessGroup):
        self._group = group
        self._thread: threading.Thread | None = None
        self._errors: list[BaseException] = []

    def start(
        self, target: Path, tensors: Mapping[str, Tensor], finish: Callable[[Path, dict[str, str]], None]
    ) -> None:
        """Copy ``tensors`` and have them written to ``target``; waits for the save before.

        ``finish`` is called on the first rank, with the folder before it is in its place and the hashes of
        its files, and again with the one that is, and no hashes.
        """
        self.wait()
        staged = {name: _on_host(tensor) for name, tensor in tensors.items()}

        def write() -> None:
            try:
                self._write(target, staged, finish)
            except BaseException as error:
                self._errors.append(error)

        self._thread = threading.Thread(target=write, name="state", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written; raises what went wrong in it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._errors:
            raise self._errors.pop()

    def _write(
        self, target: Path, staged: dict[str, Tensor], finish: Callable[[Path, dict[str, str]], None]
    ) -> None:
        rank = dist.get_rank()
        if rank != 0:
            self._write_parts(self._told(None), staged)
            return
        with atomic_folder(target) as temporary:
            hashes = self._write_parts(self._told(temporary), staged)
            give_name(temporary / TORCHS_LIST, LIST)
            finish(temporary, hashes | {LIST: file_sha256(temporary / LIST)})
        finish(target, {})

    def _told(self, folder: Path | None) -> Path:
        """The folder that the first rank writes to."""
        told = [folder]
        dist.broadcast_object_list(told, src=0, group=self._group)
        assert told[0] is not None
        return told[0]

    def _write_parts(self, folder: Path, staged: dict[str, Tensor]) -> dict[str, str]:
        """Every rank's; the hashes of their files."""
        writer = FileSystemWriter(folder, single_file_per_rank=True)
        save(dict(staged), storage_writer=writer, process_group=self._group)
        own = {path.name: file_sha256(path) for path in folder.glob(f"__{dist.get_rank()}_*.distcp")}
        found: list[dict[str, str]] = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(found, own, group=self._group)
        return {name: digest for of_rank in found for name, digest in of_rank.items()}


def _on_host(tensor: Tensor) -> Tensor:
    """A copy that training does not change."""
    if not isinstance(tensor, DTensor):
        return tensor.detach().cpu().clone()
    return part_of(own_part(tensor).detach().cpu().clone(), tensor)


class _Reader(FileSystemReader):
    def _get_metadata_path(self, rank: int | None = None) -> Path:
        return Path(self.path) / LIST


def read_parts(
    folder: Path, masters: Mapping[str, Tensor], group: dist.ProcessGroup | None
) -> dict[str, Tensor]:
    """What ``MasterAdamW.load_state_tensors`` takes, from a state of any number of ranks; collective.

    Of sharded ``masters`` each rank reads its own part, whoever had written it; of plain ones all of it. To
    the host's memory: what of it a device keeps is the optimizer's choice.
    """
    reader = _Reader(folder)
    found = {
        key: _blank(about, masters[key.partition("/")[2]])
        for key, about in reader.read_metadata().state_dict_metadata.items()
        if isinstance(about, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        # One process is told that it is one.
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        load(found, storage_reader=reader, process_group=group, no_dist=group is None)
    return found


def _blank(about: TensorStorageMetadata, master: Tensor) -> Tensor:
    """Memory for a part of what was saved so, divided as ``master`` is."""
    dtype = about.properties.dtype
    if not isinstance(master, DTensor) or not about.size:
        return torch.empty(about.size, dtype=dtype)
    return empty(about.size, dtype=dtype, device_mesh=host_mesh(master), placements=master.placements)


def read_whole(file: Path, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same from the one file of a state that is not sharded, one tensor after the other."""
    return dict(_own_parts(file, masters))


def _own_parts(file: Path, masters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file, framework="pt") as opened:
        for key in opened.keys():  # noqa: SIM118
            tensor, master = opened.get_tensor(key), masters[key.partition("/")[2]]
            if isinstance(master, DTensor) and tensor.ndim:
                tensor = distribute_tensor(
                    tensor, host_mesh(master), master.placements, src_data_rank=None
                ).clone()
            yield key, tensor
