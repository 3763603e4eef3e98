"""The command line itself: versions, exit codes, migrate, model."""

import hashlib
import os
import runpy
import signal
import socket
import sys
import threading

import pytest
from typer.testing import CliRunner

import ringfence
from ringfence.cli import EXIT_CODES, build_app, main
from ringfence.errors import Kind


def run(*arguments, **environment):
    return CliRunner().invoke(build_app(), list(arguments), env=environment)


def exit_code(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ringfence", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_version_and_help():
    assert run("--version").stdout.strip() == ringfence.__version__
    for command in ("run", "serve", "worker", "migrate", "demo", "ingest", "ask", "model", "admin"):
        assert command in run("--help").stdout


def test_every_kind_of_error_has_an_exit_code():
    assert set(EXIT_CODES) == set(Kind)
    assert 0 not in EXIT_CODES.values()


def test_errors_end_in_a_sentence_and_their_exit_code(monkeypatch, capsys):
    monkeypatch.delenv("RINGFENCE_DATABASE_URL", raising=False)
    assert exit_code(monkeypatch, "migrate") == EXIT_CODES[Kind.SETUP]
    assert capsys.readouterr().err.startswith("ringfence: Set RINGFENCE_DATABASE_URL")
    monkeypatch.setenv("RINGFENCE_PORT", "many")
    assert exit_code(monkeypatch, "migrate") == EXIT_CODES[Kind.SETUP]
    assert "RINGFENCE_PORT" in capsys.readouterr().err
    assert exit_code(monkeypatch, "--version") == 0


def test_an_interrupt_exits_with_130(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RINGFENCE_DATABASE_URL", f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/c")
        monkeypatch.setenv("RINGFENCE_SECRET_KEY", "x" * 40)
        interrupt = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
        interrupt.start()
        assert exit_code(monkeypatch, "migrate") == 130
        interrupt.join()


def test_serve_refuses_to_start_without_mail_and_key(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert exit_code(monkeypatch, "serve", "--port", "0") == EXIT_CODES[Kind.SETUP]
    assert "RINGFENCE_SMTP_HOST" in capsys.readouterr().err
    monkeypatch.setenv("RINGFENCE_SMTP_HOST", "localhost")
    assert exit_code(monkeypatch, "serve", "--port", "0") == EXIT_CODES[Kind.SETUP]
    assert "RINGFENCE_SECRET_KEY" in capsys.readouterr().err
    monkeypatch.setenv("RINGFENCE_SECRET_KEY", "too short")
    assert exit_code(monkeypatch, "serve") == EXIT_CODES[Kind.SETUP]
    assert "too short" not in capsys.readouterr().err


def test_run_listens_on_loopback_alone(monkeypatch, capsys):
    assert exit_code(monkeypatch, "run", "--host", "192.0.2.1") == EXIT_CODES[Kind.SETUP]
    assert "loopback" in capsys.readouterr().err


def test_maintenance_needs_an_administrator(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RINGFENCE_LOG_FILE", "off")
    monkeypatch.setattr(sys, "argv", ["ringfence", "maintain", "--once"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == os.EX_CONFIG
    assert "RINGFENCE_DATABASE_URL" in capsys.readouterr().err


def test_a_worker_needs_a_mail_server(monkeypatch, capsys):
    assert exit_code(monkeypatch, "worker") == EXIT_CODES[Kind.SETUP]
    assert "RINGFENCE_SMTP_HOST" in capsys.readouterr().err


async def test_migrate_says_what_it_did(server_url, admin):
    import asyncio
    import uuid

    from tests.conftest import SECRET, with_database

    name = f"test_{uuid.uuid4().hex}"
    await admin.execute(f"create database {name}")
    env = {"RINGFENCE_DATABASE_URL": with_database(server_url, name), "RINGFENCE_SECRET_KEY": SECRET}
    try:
        first = await asyncio.to_thread(CliRunner().invoke, build_app(), ["migrate"], None, env)
        second = await asyncio.to_thread(CliRunner().invoke, build_app(), ["migrate"], None, env)
    finally:
        await admin.execute(f"drop database {name} with (force)")
    assert first.stdout.splitlines()[0] == "applied 0001_initial.sql"
    assert second.stdout == "nothing to do\n"


def test_models_are_listed_pulled_and_verified(tmp_path, monkeypatch, capsys):
    env = {"RINGFENCE_MODELS_DIR": str(tmp_path)}
    listed = run("model", "list", **env)
    assert listed.exit_code == 0
    assert "all-minilm-l6-v2" in listed.stdout
    assert "missing" in listed.stdout
    assert run("model", "verify", **env).exit_code == 0
    assert "unknown_model" in str(run("model", "pull", "no-such-model", **env).exception)
    sha256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
    (tmp_path / sha256).write_bytes(hashlib.sha256(b"other").digest() * (466247 // 32) + b"x" * (466247 % 32))
    corrupt = run("model", "verify", **env)
    assert "corrupt" in corrupt.stdout
    assert "weights_corrupt" in str(corrupt.exception)


def test_python_dash_m_is_the_same(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ringfence", "--version"])
    monkeypatch.delitem(sys.modules, "ringfence.__main__", raising=False)
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("ringfence", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == ringfence.__version__
    runpy.run_module("ringfence.__main__", run_name="elsewhere")


def test_demo_takes_the_same_options(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("RINGFENCE_HOST", "192.0.2.1")
    assert exit_code(monkeypatch, "demo", "--no-model") == EXIT_CODES[Kind.SETUP]
    assert "loopback" in capsys.readouterr().err


def test_pulling_what_is_there_costs_nothing(models_dir):
    assert run("model", "pull", "smollm2-135m-instruct", RINGFENCE_MODELS_DIR=str(models_dir)).exit_code == 0
