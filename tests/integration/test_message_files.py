"""Files that go with a message posted by hand: only the caller's own."""

from __future__ import annotations

from pipeline.files.record import new_file_id
from tests.integration.ingress_app import ingress_app

PATH = "/chat-svc/thread/t/message"


async def test_only_files_of_ones_own_go_with_a_message(redis_url: str) -> None:
    async with ingress_app(redis_url) as app:
        alice, bob = await app.user("alice"), await app.user("bob")
        for account in (alice, bob):
            await app.send("POST", "/chat-svc/thread", {"id": "t"}, as_=account)
        mine = (await app.upload(b"pixels", as_=alice)).json()["upload"]["fileId"]
        assert (await app.send("POST", PATH, {"id": "m", "fileIds": [mine]}, as_=alice)).status_code == 200
        refusals = []
        for file_id in (mine, new_file_id()):
            reply = await app.send("POST", PATH, {"text": "look", "fileIds": [file_id]}, as_=bob)
            refusals.append((reply.status_code, reply.json()["error"].replace(file_id, "ID")))
        assert refusals == [(400, "fileIds: got 'ID', allowed is the ids of files of your own")] * 2
        lists = [(await app.send("POST", "/chat-svc/messages", as_=who)).json()["messages"] for who in (alice, bob)]
        assert [[message.get("fileIds") for message in messages] for messages in lists] == [[[mine]], []]


async def test_a_deleted_file_is_like_one_that_never_was(redis_url: str) -> None:
    async with ingress_app(redis_url) as app:
        alice = await app.user("alice")
        await app.send("POST", "/chat-svc/thread", {"id": "t"}, as_=alice)
        mine = (await app.upload(b"pixels", as_=alice)).json()["upload"]["fileId"]
        await app.send("DELETE", f"/file-svc/upload/{mine}", as_=alice)
        reply = await app.send("POST", PATH, {"text": "look", "fileIds": [mine]}, as_=alice)
        assert reply.status_code == 400
        assert reply.json() == {"error": f"fileIds: got '{mine}', allowed is the ids of files of your own"}
