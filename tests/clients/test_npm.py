"""Clients from npm against `snugly serve` and the real engine: `cn`, `opencode`, `codex`.

They run where `.ci/clients` has put them (SNUGLY_TEST_NPM names the folder), and skip where
not. A small model writes what it likes: that the conversation is had, without an error of
the client's, is what is held.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.clients.conftest import CHAT, Server

NPM = os.environ.get("SNUGLY_TEST_NPM", "")
PATIENCE = 600  # Codex has a long prompt: it took 237 s at a load of 20 on two cores


def client(name: str) -> str:
    found = Path(NPM) / "node_modules" / ".bin" / name
    if not NPM or not found.exists():
        pytest.skip(f"{name} is not installed: .ci/clients installs it")
    return str(found)


def run(home: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "NO_COLOR": "1"}
    return subprocess.run(
        command, env={**kept, **environment}, cwd=home, text=True, timeout=PATIENCE, check=False,
        capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_cn(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "name: snugly\nversion: 0.0.1\nschema: v1\nmodels:\n"
        f"  - name: snug\n    provider: openai\n    model: {CHAT}\n"
        f"    apiBase: {server.url}/v1\n    apiKey: {server.token}\n    roles: [chat]\n"
    )
    done = run(
        tmp_path, client("cn"), "--config", str(config), "-p", "Say hello.",
        CONTINUE_TELEMETRY_ENABLED="0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), done.stderr


def test_opencode(server: Server, tmp_path: Path) -> None:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{server.url}/v1", "apiKey": server.token},
        "models": {CHAT: {"name": "snug", "limit": {"context": 8192, "output": 64}}},
    }
    settings = {"provider": {"snugly": provider}, "autoupdate": False, "share": "disabled"}
    (tmp_path / "opencode.json").write_text(json.dumps(settings))
    done = run(
        tmp_path, client("opencode"), "run", "-m", f"snugly/{CHAT}", "Say hello.",
        OPENCODE_DISABLE_MODELS_FETCH="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr, done.stderr


def test_codex(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text(
        f'model = "{CHAT}"\nmodel_provider = "snugly"\n[model_providers.snugly]\n'
        f'name = "Snugly"\nbase_url = "{server.url}/v1"\nenv_key = "SNUG"\n'
        'wire_api = "responses"\nrequest_max_retries = 0\nstream_max_retries = 0\n'
    )
    done = run(
        tmp_path, client("codex"), "exec", "--skip-git-repo-check", "Say hello.",
        SNUG=server.token,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
