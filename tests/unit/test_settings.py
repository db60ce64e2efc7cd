import os
import subprocess
import sys
from pathlib import Path

import pytest

from snugly.errors import UserError
from snugly.settings import NAMES, config_file, settings


def write(text: str) -> None:
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().write_text(text)


def test_variable_wins_over_file_and_file_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write('hf_endpoint = "http://mirror"\nengine_start_seconds = 5\n')
    monkeypatch.setenv("SNUGLY_ENGINE_START_SECONDS", "7")
    assert settings().hf_endpoint == "http://mirror"
    assert settings().engine_start_seconds == 7
    assert settings().engine_silence_seconds == 60


def test_a_typing_slip_is_refused_by_name() -> None:
    write("hf_endpiont = 1\n")
    with pytest.raises(UserError, match="hf_endpiont"):
        settings()


def test_a_slip_in_a_variable_is_refused_and_the_near_name_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SNUGLY_STOR", "/x")
    with pytest.raises(UserError, match="Did you mean store") as caught:
        settings()
    assert "SNUGLY_STOR" in caught.value.because


def test_a_settings_file_that_was_named_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNUGLY_CONFIG", "/nowhere.toml")
    with pytest.raises(UserError, match="is not there"):
        settings()


def test_a_relative_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNUGLY_STORE", "models")
    with pytest.raises(UserError, match="depends on the folder you stand in"):
        settings()


def test_a_wrong_value_is_refused_by_name() -> None:
    write("engine_start_seconds = -1\n")
    with pytest.raises(UserError, match="engine_start_seconds"):
        settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("serve_port", "0"),  # below its least
        ("serve_port", "65536"),
        ("engine_start_seconds", "0.0"),
        ("engine", '"xllamacp"'),
        ("speculate", "1"),
        ("follow_load", '"perhaps"'),
        ("hf_endpoint", "3"),
    ],
)
def test_a_value_of_the_right_type_is_held_to_its_bounds_and_choices(key: str, value: str) -> None:
    write(f"{key} = {value}\n")
    with pytest.raises(UserError, match=key):
        settings()


def test_what_is_right_as_it_stands_is_taken_without_pydantic() -> None:
    """It takes 70 ms to import: a quarter of what a person waits for `snugly plan`."""
    write('engine = "native"\nserve_port = 80\nfollow_load = false\nllama_server = "/x/server"\n')
    program = (
        "import sys; from snugly.settings import settings; s = settings();"
        "print(s.engine, s.serve_port, s.follow_load, s.llama_server, 'pydantic' in sys.modules)"
    )
    environment = os.environ | {"SNUGLY_SPECULATE": "off"}
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["native", "80", "False", "/x/server", "False"]


def test_a_file_that_is_not_toml_names_itself() -> None:
    write("store = [\n")
    with pytest.raises(UserError, match=str(config_file())):
        settings()


def test_home_is_understood_and_a_list_that_is_no_json_names_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SNUGLY_STORE", "~/x")
    assert settings().store == Path.home() / "x"
    settings.cache_clear()
    monkeypatch.setenv("SNUGLY_ENGINE_COMMAND", "foo")
    with pytest.raises(UserError, match="SNUGLY_ENGINE_COMMAND"):
        settings()


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/settings.md").read_text()
    missing = [name for name in NAMES if f"`{name}`" not in page]
    assert not missing
