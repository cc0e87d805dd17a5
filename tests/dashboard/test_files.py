"""The page and its files, as they are sent."""

import gzip
import json
import re

import httpx

from app.dashboard.assets import site, sources
from app.experiments.schemas import ALGORITHMS
from tests.fixtures.api import Api, Keyed, on_sqlite
from trainer.ablations import ablation_names

MOST_BYTES = 300_000


@on_sqlite
def test_the_page_and_all_it_loads_are_served_to_everybody(keyed: Keyed):
    api = keyed.api
    page = httpx.get(f"{api.url}/")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-cache"
    addresses = set(re.findall(r'(?:href|src)="(/dashboard/[^"]+)"', page.text))
    wanted = {f"/dashboard/{site().digest}/{name}" for name in site().files if not name.endswith(".txt")}
    assert addresses == wanted, "every file is announced in the page's head, and nothing else"
    for address in sorted(addresses):
        answer = httpx.get(api.url + address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{api.url}/dashboard/0000000000000000/main.js").status_code == 404
    assert httpx.head(f"{api.url}/").status_code == 200


@on_sqlite
def test_nothing_inline_and_nothing_from_elsewhere(api: Api):
    page = httpx.get(f"{api.url}/")
    policy = page.headers["content-security-policy"].split("; ")
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert not re.search(r"<script(?![^>]*\ssrc=)", page.text)
    assert not re.search(r"\son\w+=|style=|https?://", page.text)
    for name, body in sources().items():
        if name.endswith((".js", ".css")) and not name.startswith("vendor/"):
            text = body.decode()
            assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text), name
            # But for the addresses of examples.
            assert not re.findall(r"https?://(?!grader\.example|www\.w3\.org/2000/svg)", text), name


def test_the_forms_offer_every_algorithm_and_every_ablation():
    text = sources()["jobs/methods.js"].decode()
    offered = {
        name: json.loads(names) for name, names in re.findall(r"^export const (\w+) = (\[.*\]);$", text, re.M)
    }
    assert sorted(offered["ALGORITHMS"]) == sorted(ALGORITHMS)
    assert sorted(offered["ABLATIONS"]) == sorted(set(ablation_names()) - set(ALGORITHMS))


def test_it_is_light():
    assert site().weight < MOST_BYTES, f"{site().weight} bytes compressed"
    for name, asset in site().files.items():
        if asset.zipped is not None:
            assert gzip.decompress(asset.zipped) == asset.body, name


def test_third_parties_are_named_with_version_and_licence():
    licences = site().files["vendor/LICENSES.txt"].body.decode()
    for package in (
        "preact",
        "htm",
        "uplot",
        "@fontsource-variable/geist",
        "@fontsource-variable/geist-mono",
    ):
        assert re.search(rf"^{package} \d+\.\d+\.\d+$", licences, re.M), package
    for licence in ("The MIT License", "Apache License", "SIL OPEN FONT LICENSE"):
        assert licence in licences
