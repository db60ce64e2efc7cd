"""The `llm` command against `snugly serve`, told of it as its documentation says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.conftest import CHAT, Server

pytest.importorskip("llm")


def test_llm_prompts_streams_and_goes_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: snug\n  model_name: {CHAT}\n  api_base: {server.url}/v1\n"
    )
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": server.token}

    def llm(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llm", *words],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "snug" in llm("models")
    options = ("-m", "snug", "-o", "temperature", "0", "-o", "max_tokens", "12")
    streamed = llm(*options, "-s", "Be brief.", "Name a colour.")
    assert streamed.strip()
    assert llm(*options, "--no-stream", "-s", "Be brief.", "Name a colour.") == streamed
    assert llm("-c", "-o", "max_tokens", "12", "And another?").strip()
