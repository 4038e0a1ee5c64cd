"""Places, and the names below them: the same on every storage."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha.exceptions import AhaRecordError
from airflow_provider_aha.store.store import Store, local_store, sha256


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "local":
        yield local_store(str(tmp_path / "aha"))
    elif request.param == "memory":
        fs = MemoryFileSystem(skip_instance_cache=True)
        fs.store, fs.pseudo_dirs = {}, [""]
        yield Store(fs, "/bucket/aha", "memory://bucket/aha")
    else:
        yield request.getfixturevalue("s3_location")


@pytest.fixture
def s3_location(s3_endpoint: str, tmp_path: Path) -> Store:
    import s3fs

    options = {"endpoint_url": s3_endpoint, "region_name": "us-east-1"}
    fs = s3fs.S3FileSystem(key="test", secret="test", client_kwargs=options, skip_instance_cache=True)
    return Store(fs, f"records/{tmp_path.name}", f"s3://aws_default@records/{tmp_path.name}")


def test_what_is_written_is_listed_and_read_by_its_name(place: Store) -> None:
    for name in ("a.json", "x/b.json", "x/y/c.json"):
        assert place.create(name, name.encode())
    assert place.files() == ["a.json", "x/b.json", "x/y/c.json"]
    assert place.files("x", deep=False) == ["x/b.json"]
    assert [entry.name for entry in place.entries("x")] == ["x/b.json", "x/y/c.json"]
    assert place.names() == {"a.json", "x"}
    assert place.read_many(["x/b.json", "a.json"]) == {"x/b.json": b"x/b.json", "a.json": b"a.json"}
    assert place.within("x").read("y/c.json") == b"x/y/c.json"
    assert place.within("x/y/c.json").read() == b"x/y/c.json"
    assert dict(place.hashes(place.entries())) == {name: sha256(name.encode()) for name in place.files()}


def test_what_is_not_there_is_none_or_empty_and_no_error(place: Store) -> None:
    assert place.read("a.json") is None
    assert place.read_record("a.json") is None
    assert place.hash_of("a.json") is None
    assert not place.exists("a.json")
    assert (place.files("x"), place.entries("x"), place.names("x"), place.read_all("x")) == ([], [], set(), {})
    with place.open("a.json") as stream:
        assert stream is None
    place.remove(["a.json"])


def test_several_files_are_published_and_removed(place: Store, tmp_path: Path) -> None:
    local = tmp_path / "staged"
    local.write_text("new")
    place.create("x/a.json", b"old")
    place.publish({"x/a.json": local, "x/b.json": local})
    assert place.read_all() == {"x/a.json": b"new", "x/b.json": b"new"}
    place.remove(["x/b.json", "x/a.json"])
    assert place.files() == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", ".."])
def test_no_name_leads_out_of_a_place(place: Store, name: str) -> None:
    for use in (place.read, place.files, place.within, lambda one: place.create(one, b"x"), place.hash_of):
        with pytest.raises(AhaRecordError, match="no name of a file below"):
            use(name)


def test_a_place_knows_its_address_its_folder_and_what_lies_below_it(place: Store) -> None:
    plan = place.within("access/account=acme/dag=d/run=r/plan.json")
    assert plan.url == place.url_of("access/account=acme/dag=d/run=r/plan.json")
    assert plan.name == "plan.json"
    assert plan.beside("plan.md").url == place.url_of("access/account=acme/dag=d/run=r/plan.md")
    assert place.name_of(plan) == "access/account=acme/dag=d/run=r/plan.json"
    assert place.within("other").name_of(plan) is None
    assert plan.record_base == place
    assert place.within("users/account=acme/x").record_base is None
