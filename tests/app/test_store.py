"""The artefact store against a real S3 server, as it is and behind a proxy that breaks what passes."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.core.counting import told
from app.core.settings import Settings, get_settings
from app.core.store.artefacts import cache, described, in_use, keep, local, publish_base, remove
from app.core.store.cache import Cache
from app.core.store.errors import Damaged, NotStored, StoreError, StoreFull, StoreRefuses
from app.core.store.remote import PART_BYTES, QUICK, Patience, Remote, remote
from app.core.store.trees import Reference, Tree
from tests.app.test_monitoring import values
from tests.fixtures.http_server import Reply, Server
from tests.fixtures.object_store import S3, Faults, FaultyS3

#: Short, for faults that last.
SHORT = Patience(request=2.0, retries=1, in_all=4.0)
FILES = {"config.json": b"{}", "model.safetensors": os.urandom(100_000), "adapter/adapter.json": b"[1]"}


def folder_of(path: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def other_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str) -> Path:
    """A data directory in which nothing is yet, which the settings name from now on."""
    return move_to(tmp_path / "other", monkeypatch)


def move_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(folder))
    get_settings.cache_clear()
    return folder


def test_a_folder_goes_from_host_to_host(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    move_to(tmp_path / "one", monkeypatch)
    folder = folder_of(tmp_path / "one" / "runs" / "step-3")
    place = keep("runs/job/checkpoints/step-3", folder)
    # The host that kept it has it at hand, without a second copy.
    assert (local(place) / "model.safetensors").samefile(folder / "model.safetensors")

    other = move_to(tmp_path / "two", monkeypatch)
    found = local(place)
    assert found.is_relative_to(other) and found.name == "step-3" and content_of(found) == FILES
    # The same content goes to the same place.
    assert keep("runs/job/checkpoints/step-3", found) == place

    remove(place, other)
    assert not found.exists()
    with pytest.raises(NotStored, match="does not have runs/job/checkpoints/step-3"):
        local(place)


def test_a_folder_that_all_hosts_mount_is_a_store_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLICYSPLIT_STORE", f"file://{tmp_path / 'mounted'}")
    move_to(tmp_path / "one", monkeypatch)
    place = keep("models/tiny", folder_of(tmp_path / "tiny"))
    move_to(tmp_path / "two", monkeypatch)
    assert content_of(local(place)) == FILES
    store = remote()
    assert store is not None
    store.check()
    assert store.signed("models/tiny", 60) is None
    remove(place, tmp_path)
    assert list(store.list("models")) == []
    monkeypatch.undo()
    get_settings.cache_clear()


def test_what_goes_up_and_down_is_counted(other_host: Path):
    def now(name: str, **labels: str) -> float:
        return sum(values(told().decode(), f"policysplit_store_{name}", **labels))

    store = remote()
    assert store is not None
    asked = [
        ("bytes_total", {"direction": "up"}, 5),
        ("bytes_total", {"direction": "down"}, 5),
        ("requests_total", {"operation": "put", "outcome": "ok"}, 1),
        ("requests_total", {"operation": "get", "outcome": "ok"}, 1),
        ("requests_total", {"operation": "get", "outcome": "NotStored"}, 1),
        ("seconds_count", {"operation": "get"}, 2),
    ]
    before = [now(name, **labels) for name, labels, _ in asked]
    store.put_bytes("five", b"bytes")
    assert store.get_bytes("five") == b"bytes"
    with pytest.raises(NotStored):
        store.get_bytes("six")
    after = [now(name, **labels) for name, labels, _ in asked]
    assert [b - a for a, b in zip(before, after, strict=True)] == [rise for _, _, rise in asked]


def test_without_a_store_places_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("POLICYSPLIT_STORE", raising=False)
    move_to(tmp_path, monkeypatch)
    folder = folder_of(tmp_path / "runs" / "step-1")
    assert keep("runs/step-1", folder) == str(folder) and local(str(folder)) == folder
    remove(str(folder), tmp_path / "elsewhere")
    assert folder.exists()
    remove(str(folder), tmp_path / "runs")
    assert not folder.exists()
    with pytest.raises(StoreError, match="POLICYSPLIT_STORE is not set"):
        local(f"store:runs/step-1@{'0' * 64}")
    monkeypatch.undo()
    get_settings.cache_clear()


def test_who_reads_the_description_does_not_fetch_the_weights(other_host: Path, tmp_path: Path):
    place = keep("models/tiny", folder_of(tmp_path / "tiny"))
    mine = cache()
    assert mine is not None
    reference = Reference.parse(place)
    assert reference is not None and mine.drop(reference)
    folder = described(place)
    assert sorted(content_of(folder)) == ["adapter/adapter.json", "config.json"]
    assert content_of(local(place)) == FILES


def test_what_is_in_use_is_not_evicted(other_host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.core.store.cache.RECENT_SECONDS", 0.0)
    store = remote()
    assert store is not None
    small = Cache(tmp_path / "cache", store, most_bytes=250_000)
    places = []
    for number in range(4):
        files = FILES | {"model.safetensors": bytes([number]) * 100_000}
        place = keep(f"runs/job/checkpoints/step-{number}", folder_of(tmp_path / f"step-{number}", files))
        places.append(Reference.parse(place))
    first, second, third, fourth = (place for place in places if place is not None)
    # Another process of this host reads the first one.
    code = (
        "import sys; from pathlib import Path; from app.core.store.cache import Cache\n"
        "from app.core.store.trees import Reference\n"
        f"cache = Cache(Path({str(tmp_path / 'cache')!r}), None, 0)\n"
        f"with cache.pinned(Reference({first.name!r}, {first.digest!r})):\n"
        "    print('pinned', flush=True); sys.stdin.read()\n"
    )
    small.fetch(first)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"pinned\n"
        small.fetch(second)
        small.fetch(third)
        small.fetch(fourth)
        assert [small.folder(one).exists() for one in (first, second, third, fourth)] == [1, 0, 0, 1]
        assert not small.drop(first)
        reader.communicate()
    small.fetch(second)
    small.fetch(third)
    assert [small.folder(one).exists() for one in (first, second, third, fourth)] == [0, 1, 1, 0]


def test_many_who_ask_at_once_fetch_once(faulty_s3: FaultyS3, other_host: Path, tmp_path: Path):
    place = keep("models/tiny", folder_of(tmp_path / "tiny"))
    reference, mine = Reference.parse(place), cache()
    assert reference is not None and mine is not None and mine.drop(reference)
    faulty_s3.faults = Faults()
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: local(place), range(16)))
    (folder,) = folders
    assert content_of(folder) == FILES
    assert sum("model.safetensors" in path for _, path in faulty_s3.faults.seen) == 1


def test_what_was_cut_off_is_gone_on_with(faulty_s3: FaultyS3, other_host: Path, tmp_path: Path):
    """Down: the ranges that came are kept. Up: the files that are there are not sent again."""
    big = os.urandom(5 * PART_BYTES)
    folder = folder_of(tmp_path / "step-1", FILES | {"model.safetensors": big})
    faulty_s3.faults = Faults(method="PUT", of="tree.json", times=99, status=403, code="AccessDenied")
    with pytest.raises(StoreRefuses):
        keep("runs/job/checkpoints/step-1", folder)
    faulty_s3.faults = Faults()
    place = keep("runs/job/checkpoints/step-1", folder)
    assert [path for method, path in faulty_s3.faults.seen if method != "GET"] == [
        path for _, path in faulty_s3.faults.seen if path.endswith("tree.json")
    ]

    reference, store = Reference.parse(place), remote()
    assert reference is not None and store is not None
    target = tmp_path / "down" / "model.safetensors"
    path, sha256 = reference.object_path("model.safetensors"), hashlib.sha256(big).hexdigest()
    partial = target.with_name(".model.safetensors.partial")
    target.parent.mkdir()
    partial.write_bytes(big[: 4 * PART_BYTES])
    faulty_s3.faults = Faults()
    store.fetch(path, target, size=len(big), sha256=sha256)
    assert target.read_bytes() == big and not partial.exists()
    assert len(faulty_s3.faults.seen) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Faults(times=2, status=503, code="SlowDown"),
        Faults(times=2, status=500, code="InternalError"),
        Faults(times=2, cut_after=0),
        Faults(method="GET", of="content", times=2, cut_after=1000),
    ],
    ids=["503", "500", "cut", "cut in an answer"],
)
def test_faults_that_pass_are_waited_out(
    faulty_s3: FaultyS3, other_host: Path, tmp_path: Path, fault: Faults
):
    faulty_s3.faults = fault
    place = keep("models/tiny", folder_of(tmp_path / "tiny"))
    reference, mine = Reference.parse(place), cache()
    assert reference is not None and mine is not None and mine.drop(reference)
    fault.times = 2
    assert content_of(local(place)) == FILES
    assert fault.times == 0


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Faults(status=503, code="SlowDown"), StoreError, r"is overloaded \(503 SlowDown\)"),
        (Faults(status=500, code="InternalError"), StoreError, r"failed on .*\(500 InternalError\)"),
        (Faults(cut_after=0), StoreError, "cannot be reached, or drops the connection.*AWS_ENDPOINT_URL"),
        (Faults(stall_after=1000), StoreError, "cannot be reached, or drops the connection"),
        (Faults(status=507, code="InsufficientStorage"), StoreFull, "is full"),
        (Faults(status=403, code="QuotaExceeded"), StoreFull, r"is full \(403 QuotaExceeded\)"),
        (Faults(status=403, code="AccessDenied"), StoreRefuses, "need permission to read, write"),
        (Faults(status=403, code="InvalidAccessKeyId"), StoreRefuses, "check AWS_ACCESS_KEY_ID"),
    ],
    ids=lambda value: f"{value.status or 'connection'}" if isinstance(value, Faults) else "",
)
def test_faults_that_last_are_said_in_plain_words(
    faulty_s3: FaultyS3, bucket: str, tmp_path: Path, fault: Faults, error: type[StoreError], says: str
):
    store = Remote(bucket, SHORT)
    content = os.urandom(50_000)
    store.put_bytes("a/b", content)
    fault.times = 99
    faulty_s3.faults = fault
    with pytest.raises(error, match=says) as raised:
        store.fetch("a/b", tmp_path / "b", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    assert bucket in str(raised.value) and raised.value.status == 503
    assert "secret" not in str(raised.value) and raised.value.__suppress_context__
    assert not (tmp_path / "b").exists()
    # Once it is over the same call goes through.
    fault.times = 0
    store.fetch("a/b", tmp_path / "b", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    assert (tmp_path / "b").read_bytes() == content


def test_wrong_keys_a_missing_bucket_and_no_server(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch):
    Remote(bucket, QUICK).check()
    with pytest.raises(StoreRefuses, match="does not have this bucket"):
        Remote("s3://nobody-made-this", QUICK).check()
    s3.use(monkeypatch, secret="not-the-secret")
    with pytest.raises(
        StoreRefuses, match=r"rejected the credentials \(403 SignatureDoesNotMatch\)"
    ) as error:
        Remote(bucket, QUICK).check()
    assert "not-the-secret" not in str(error.value) and "the-key-id" not in str(error.value)
    s3.use(monkeypatch, endpoint="http://127.0.0.1:1")
    with pytest.raises(StoreError, match="cannot be reached"):
        Remote(bucket, QUICK).check()


@pytest.mark.parametrize(
    ("url", "variable", "reply", "says"),
    [
        ("az", "AZURE_STORAGE_ENDPOINT", (404, "ContainerNotFound"), "does not have this bucket"),
        ("az", "AZURE_STORAGE_ENDPOINT", (403, "AuthenticationFailed"), "check AZURE_STORAGE_ACCOUNT_NAME"),
        ("gs", "GOOGLE_BASE_URL", (403, "AccessDenied"), "need permission to read, write"),
        ("gs", "GOOGLE_BASE_URL", None, "check its address .GOOGLE_BASE_URL."),
    ],
)
def test_other_kinds_of_stores_are_reached_over_http_and_told_by_their_own_names(
    url: str,
    variable: str,
    reply: tuple[int, str] | None,
    says: str,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    account = tmp_path / "account.json"
    account.write_text(
        json.dumps({"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""})
    )
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(account))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv(variable, server.url if reply else "http://127.0.0.1:1")
    if reply:
        body = f"<Error><Code>{reply[1]}</Code></Error>".encode()
        server.answer = lambda _request: Reply(body, reply[0])
    with pytest.raises(StoreError, match=says):
        Remote(f"{url}://bucket/prefix", SHORT).check()
    assert bool(server.requests) == bool(reply)


def test_what_was_changed_in_the_store_is_not_taken(other_host: Path, bucket: str, tmp_path: Path):
    store = remote()
    place = keep("models/tiny", folder_of(tmp_path / "tiny"))
    reference, mine = Reference.parse(place), cache()
    assert reference is not None and mine is not None and store is not None
    mine.drop(reference)
    tampered = bytearray(FILES["model.safetensors"])
    tampered[50] ^= 1
    store.put_bytes(reference.object_path("model.safetensors"), bytes(tampered))
    with pytest.raises(Damaged, match=r"model\.safetensors in the store .* is damaged: its SHA-256"):
        local(place)
    store.put_bytes(reference.object_path("model.safetensors"), b"short")
    with pytest.raises(StoreError):
        local(place)
    tree = Tree({"../../escape": next(iter(Tree.of(tmp_path / "tiny").files.values()))})
    wicked = Reference("models/tiny", tree.digest)
    store.put_bytes(wicked.tree_path, tree.written())
    with pytest.raises(Damaged, match="is outside its folder"):
        mine.fetch(wicked)
    store.put_bytes(reference.tree_path, json.dumps({}).encode())
    mine.drop(reference)
    with pytest.raises(Damaged, match="not the one that was stored"):
        local(place)


def test_a_file_that_goes_while_it_is_read(other_host: Path, tmp_path: Path):
    """Deleted in the store and here: who has it open reads on, and the lock holds it here."""
    place = keep("models/tiny", folder_of(tmp_path / "tiny"))
    with in_use([place, "/not/in/the/store"]):
        folder = local(place)
        with (folder / "model.safetensors").open("rb") as file:
            remove(place, other_host)
            assert file.read() == FILES["model.safetensors"]
        assert content_of(folder) == FILES
    with pytest.raises(NotStored):
        mine = cache()
        reference = Reference.parse(place)
        assert mine is not None and reference is not None and mine.drop(reference)
        local(place)


def test_a_base_model_is_published_for_hosts_without_it(other_host: Path, tmp_path: Path):
    with pytest.raises(NotStored, match="policysplit models pull tiny"):
        local("store:base/tiny")
    publish_base("tiny", folder_of(tmp_path / "tiny"))
    assert content_of(local("store:base/tiny")) == FILES
    # A host that has it takes its own.
    own = folder_of(other_host / "models" / "tiny", {"config.json": b"{}"})
    assert local("store:base/tiny") == own


def test_addresses_that_anybody_may_read_for_a_while(bucket: str):
    store = remote()
    assert store is not None
    store.put_bytes("files/a", b"rows")
    address = store.signed("files/a", 60)
    assert address is not None and httpx.get(address).content == b"rows"
    assert httpx.get(address.partition("?")[0]).status_code == 403


def test_a_writer_that_dies_leaves_nothing_half(other_host: Path, tmp_path: Path):
    """No tree, no folder: another host does not see what has come so far."""
    folder = folder_of(tmp_path / "tiny")
    tree, store = Tree.of(folder), remote()
    reference = Reference("models/tiny", tree.digest)
    assert store is not None
    store.put_file(reference.object_path("model.safetensors"), folder / "model.safetensors")
    with pytest.raises(NotStored):
        local(str(reference))
    assert keep("models/tiny", folder) == str(reference)


@pytest.mark.parametrize(
    "url", ["s3:bucket", "/folder", "http://host/x", "s3://key:secret@bucket", "file://host/folder"]
)
def test_addresses_that_are_none_are_refused(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLICYSPLIT_STORE", url)
    with pytest.raises(ValueError, match="file:///FOLDER, s3://BUCKET/PREFIX"):
        Settings()


def test_threads_that_pin_and_drop_at_once(other_host: Path, tmp_path: Path):
    """Whoever holds the folder finds it whole, whoever else removes it meanwhile."""
    place = keep("models/tiny", folder_of(tmp_path / "tiny"))
    reference, mine = Reference.parse(place), cache()
    assert reference is not None and mine is not None
    done = threading.Event()

    def drop() -> None:
        while not done.is_set():
            mine.drop(reference)

    with ThreadPoolExecutor(3) as pool:
        dropping = pool.submit(drop)
        readers = [pool.submit(_read_often, mine, reference) for _ in range(2)]
        try:
            for reader in readers:
                reader.result()
        finally:
            done.set()
        dropping.result()


def _read_often(mine: Cache, reference: Reference) -> None:
    for _ in range(10):
        with mine.pinned(reference):
            assert content_of(mine.fetch(reference)) == FILES
