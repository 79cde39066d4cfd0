"""Snapshots of what file-svc says on the wire."""

from dataclasses import replace

from deployments.ingress.file_svc import download_object, upload_object
from pipeline.files.record import FileRecord
from tests.unit.snapshot import check_json

RECORD = FileRecord(
    id="file-3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    user_id="usr-1",
    name="naïve 🙂.png",
    content_type="image/png",
    size=12_345,
    created_us=1_773_561_898_000_001,
    url="",
)


def test_an_upload():
    check_json("upload", upload_object(RECORD))


def test_an_upload_as_an_admin_sees_it():
    check_json("upload-of-somebody-else", upload_object(RECORD, with_name=False))


def test_a_download():
    check_json("download", download_object(replace(RECORD, url="https://images.example/cat.png")))
