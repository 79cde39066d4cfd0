"""The embedded store: it keeps what it acknowledged, refuses strangers, and never outlives who started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
import redis

from deployments.local import valkey
from deployments.local.processes import ProcessId, wait_gone
from deployments.local.valkey import EmbeddedStoreFailed, EmbeddedValkey
from tests.waiting import wait_for


def test_it_is_append_only_and_never_evicts(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        settings = client.config_get("append*", "maxmemory-policy", "save", "bind")
    assert settings["appendonly"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""
    assert settings["bind"] == "127.0.0.1"


def test_every_write_is_on_disk_by_default(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "a folder with spaces") as server, server.client() as client:
        assert client.config_get("appendfsync")["appendfsync"] == "always"


def test_what_it_acknowledged_survives_kill_9_under_the_same_url(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    server.start()
    try:
        url = server.url
        with server.client() as client:
            for number in range(100):
                client.rpush("list", number)
            server.kill()
            assert server.pid is None
            server.start()
            assert server.url == url
            assert client.llen("list") == 100
    finally:
        server.stop()
    assert server.pid is None


def test_nobody_gets_in_without_the_password_and_no_command_line_shows_it(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server:
        with redis.Redis(port=server.port, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        password = server.url.partition("://:")[2].partition("@")[0]
        assert len(password) >= 32
        assert password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys\n"
        "from deployments.local.valkey import EmbeddedValkey\n"
        f"server = EmbeddedValkey(pathlib.Path({str(tmp_path)!r}))\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdin is not None
    store = ProcessId.of(int(parent.stdout.readline()))
    assert store is not None
    assert store.is_alive
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(5)
    assert wait_gone([store], 5) == []
    parent.stdout.close()
    parent.stdin.close()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("a file where its folder should be")
    with pytest.raises(EmbeddedStoreFailed, match=r"ended at its start: .*appendonlydir"):
        EmbeddedValkey(tmp_path).start(timeout_s=10)


def test_a_port_that_is_gone_before_anybody_knew_of_it_is_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lost = silent.getsockname()[1]
        ports = chain([lost], iter(valkey._free_port, None))
        monkeypatch.setattr(valkey, "_free_port", lambda: next(ports))
        with EmbeddedValkey(tmp_path) as server, server.client() as client:
            assert server.port != lost
            assert client.ping()


def test_a_port_that_others_know_is_waited_for_and_kept(tmp_path: Path) -> None:
    """The store has died, and somebody else listens on its port for a while, without a word."""
    with EmbeddedValkey(tmp_path) as server:
        url = server.url
        server.kill()
        log_began = server.log_file.stat().st_size
        thief = socket.create_server(("127.0.0.1", server.port))

        def leave_once_it_was_noticed() -> None:
            with thief:
                wait_for(lambda: b"Address already in use" in server.log_file.read_bytes()[log_began:])

        with ThreadPoolExecutor(1) as others:
            leaves = others.submit(leave_once_it_was_noticed)
            server.start()
            leaves.result()
        assert server.url == url
        with server.client() as client:
            assert client.ping()


def test_a_port_that_stays_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "PORT_WAIT_S", 0)
    with EmbeddedValkey(tmp_path / "one") as server:
        second = EmbeddedValkey(tmp_path / "two", port=server.port)
        with pytest.raises(EmbeddedStoreFailed, match=f"port {server.port} of the embedded store is taken"):
            second.start()


def _filled(folder: Path) -> Path:
    """A store that was stopped with 100 entries in a list; returns the file they are in."""
    with EmbeddedValkey(folder) as server, server.client() as client:
        for number in range(100):
            client.rpush("list", number)
    (increment,) = (folder / "appendonlydir").glob("*.incr.aof")
    return increment


@pytest.mark.parametrize("cut_off", [b"", b"*3\r\n$5\r\nRPUSH\r\n$4\r\nli"], ids=["whole", "cut-off"])
def test_nuls_that_a_power_loss_left_are_cut_off_and_kept_beside(tmp_path: Path, cut_off: bytes) -> None:
    increment = _filled(tmp_path)
    damaged = increment.read_bytes() + cut_off + b"\0" * (1024**2 + 4096)
    increment.write_bytes(damaged)
    said: list[str] = []
    with EmbeddedValkey(tmp_path, say=said.append) as server, server.client() as client:
        assert client.llen("list") == 100
        client.rpush("list", 100)
    (copy,) = increment.parent.glob("*.damaged")
    assert copy.read_bytes() == damaged
    (line,) = said
    assert f"cut {1024**2 + 4096} NUL bytes off" in line
    assert str(copy) in line
    with EmbeddedValkey(tmp_path, say=said.append) as server, server.client() as client:
        assert client.llen("list") == 101
    assert said == [line]


def test_other_damage_is_left_as_it_is_and_the_advice_is_ours(tmp_path: Path) -> None:
    increment = _filled(tmp_path)
    damaged = increment.read_bytes() + b"no command\r\n"
    increment.write_bytes(damaged)
    with pytest.raises(EmbeddedStoreFailed) as failed:
        EmbeddedValkey(tmp_path).start()
    assert f'append only file {increment.name}; see "A damaged append-only file" in docs' in failed.value.message
    assert "valkey-check-aof" not in failed.value.message
    assert increment.read_bytes() == damaged
    assert list(increment.parent.glob("*.damaged")) == []


def test_damage_behind_nuls_is_not_repaired_for_ever(tmp_path: Path) -> None:
    increment = _filled(tmp_path)
    increment.write_bytes(increment.read_bytes() + b"no command\r\n\0\0")
    with pytest.raises(EmbeddedStoreFailed, match="A damaged append-only file"):
        EmbeddedValkey(tmp_path).start()


def test_its_end_can_be_waited_for(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    server.start()
    assert not server.wait_exit(0.01)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait_exit(5)
    wait_for(lambda: server.pid is None)
    server.stop()


def test_each_test_gets_an_empty_database(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")
