"""What a figure depends on besides the texts: manifests that say it, and those that cannot be believed."""

import hashlib
import json
import shutil

import pytest

from crnn.data import checksums
from crnn.experiments import manifest
from crnn.testing import golden

SETUP = {"device": "a machine"}
DATA = {"data": {"db": {"records": 12}}}


@pytest.fixture
def database(tmp_path):
    """A database with a list of checksums and what its converter says of them."""
    path = shutil.copytree(golden("tools/raw_color_lmdb"), tmp_path / "db")
    sums = checksums.MAGIC + checksums.pack([*range(12)])
    (path / checksums.NAME).write_bytes(sums)
    said = {"dataset": "emoji", "crc32": hashlib.sha256(sums).hexdigest()}
    (path / manifest.FILE).write_text(json.dumps(said))
    return path


def test_a_converters_checksum_is_taken(database):
    sums = manifest.digest(str(database / checksums.NAME))
    assert manifest.database(str(database)) == {"records": 12, "dataset": "emoji", "crc32": sums}


def test_without_it_the_records_are_summed_up(database):
    (database / manifest.FILE).unlink()
    assert manifest.database(str(database)).keys() == {"records", "sha256"}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"dataset": "emoji"}', '{"dataset": 7, "crc32": ""}', "[" * 100_000],
    ids=range(6),
)
def test_a_manifest_of_another_form_is_refused(database, text):
    (database / manifest.FILE).write_text(text)
    with pytest.raises(
        ValueError, match=r"db/manifest.json is damaged or of another database: convert the data"
    ):
        manifest.database(str(database))


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"crnncrc1"), lambda path: path.unlink()])
def test_a_manifest_that_says_another_checksum_is_refused(database, change):
    change(database / checksums.NAME)
    with pytest.raises(
        ValueError, match=r"db/manifest.json is damaged or of another database: convert the data"
    ):
        manifest.database(str(database))


@pytest.mark.parametrize(
    "said",
    [
        "",
        "7",
        "{}",
        json.dumps({"data": {}, "runs": []}),
        json.dumps({"data": [], "runs": [SETUP]}),
        json.dumps({"data": {"db": 12}, "runs": [SETUP]}),
        json.dumps({**DATA, "runs": [{"device": 7}]}),
    ],
)
def test_a_jobs_manifest_of_another_form_is_refused(tmp_path, said):
    (tmp_path / manifest.FILE).write_text(said)
    for use in (manifest.read, lambda folder: manifest.record(folder, DATA, SETUP)):
        with pytest.raises(ValueError, match=f"manifest.json is damaged: move {tmp_path} away"):
            use(tmp_path)
    assert (tmp_path / manifest.FILE).read_text() == said


def test_a_jobs_manifest_has_every_setup_that_it_ran_on(tmp_path):
    for setup in (SETUP, {**SETUP, "backend": "cpu"}, SETUP):
        manifest.record(tmp_path, DATA, setup)
    assert manifest.read(tmp_path) == {**DATA, "runs": [SETUP, {**SETUP, "backend": "cpu"}]}
