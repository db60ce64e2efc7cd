"""`snugly plan` as a person calls it."""

import json
from pathlib import Path

import pytest
from tests.making import hub_config
from tests.process.test_run import snugly


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "Llama-3.1-8B-Instruct" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(hub_config("meta-llama__Llama-3.1-8B-Instruct")))
    return str(path)


def test_a_config_alone_gives_every_usual_quantization(config: str) -> None:
    done = snugly("plan", config, "--ram", "12GiB", COLUMNS="80")
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[2:9]}
    assert list(rows) == ["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"]
    assert "4.58 GiB" in rows["Q4_K_M"]
    assert rows["Q4_K_M"].rstrip().endswith(("fits", "slow"))
    assert rows["F16"].rstrip().endswith("too large")
    assert max(map(len, done.stdout.splitlines()[:9])) <= 80


def test_one_quantization_fills_a_bar_and_json_says_the_same(config: str) -> None:
    words = ("plan", config, "-t", "IQ3_XXS", "--context", "4096", "--ram", "16GB")
    shown, told = snugly(*words), json.loads(snugly(*words, "--json").stdout)
    (only,) = told["options"]
    assert only["type"] == "IQ3_XXS"
    assert only["context"] == 4096
    # 32 layers x 4096 tokens x 8 heads x 128 x (K + V) x 2 bytes
    assert only["memory"][0]["kv_bytes"] == 512 * 1024**2
    assert "512 MiB" in shown.stdout
    assert shown.stdout.splitlines()[1].count("█") > 0


def test_an_installed_model_is_planned_on_this_machine(stocked: Path) -> None:
    done = snugly("plan", "smollm2", "--context", "2048")
    assert "45.0 MiB" in done.stdout  # the cache, as the engine logs it


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("CONFIG", "--ram", "1GiB"), 4, "does not fit"),
        (("CONFIG", "-t", "Q8_0", "--ram", "4GiB"), 4, "does not fit"),
        (("CONFIG", "-t", "Q9_Z"), 2, "Q9_Z"),
        (("CONFIG", "--ram", "lots"), 2, "--ram lots"),
        (("CONFIG", "--context", "999999"), 2, "trained for 131,072"),
        (("nowhere.json",), 2, "nowhere.json"),
        (("smolm2",), 3, "Did you mean"),
    ],
)
def test_what_cannot_be_planned(words: tuple[str, ...], code: int, text: str, config: str) -> None:
    done = snugly("plan", *(word.replace("CONFIG", config) for word in words))
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_a_config_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    damage = (("{", "not JSON", 2), ("[]", "not a JSON object", 5), ("{}", "model_type", 2))
    for content, text, code in damage:
        path.write_text(content)
        done = snugly("plan", str(path))
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_boxes_are_compared_use_by_use() -> None:
    words = ("plan", "--compare", "rtx 4060 ti 16gb", "raspberry pi 5 8gb")
    told = json.loads(snugly(*words, "--json").stdout)
    assert [column["box"] for column in told] == ["rtx 4060 ti 16gb", "raspberry pi 5 8gb"]
    big, small = (column["uses"]["chat"] for column in told)
    assert big["parameters"] > small["parameters"]
    assert big["quality"] > small["quality"]
    shown = snugly(*words)
    assert shown.returncode == 0
    assert big["type"] in shown.stdout


def test_a_box_is_planned_by_name_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "plan.svg"
    done = snugly("plan", "--for", "code", "--on", "2x rtx 3090", "--plot", str(picture))
    assert done.returncode == 0
    assert "GPU 1" in done.stdout
    assert "snugly run -m" in done.stdout
    assert picture.read_text().startswith("<svg")


def test_runs_stand_predicted_beside_actual(stocked: Path) -> None:
    assert "no runs yet" in snugly("plan", "--history").stderr
    assert snugly("run", "-m", "smollm2", "hi", "--max-tokens", "12").returncode == 0
    (row,) = json.loads(snugly("plan", "--history", "--json").stdout)
    assert row["predicted_decode_tps"] > 0
    assert row["decode_tps"] > 0
    assert row["predicted_bytes"] > 0
    assert " > " in snugly("plan", "--history").stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--for", "dance"), "no task called"),
        (("--kv", "q9"), "no cache type"),
        (("--on", "m3 max 64gb", "--ram", "8GB"), "by its name or by its figures"),
        (("--on", "abacus"), "abacus"),
        (("--plot", "/nonexistent/x.svg"), "cannot be written"),
    ],
)
def test_what_cannot_be_asked(words: tuple[str, ...], text: str) -> None:
    done = snugly("plan", *words)
    assert (done.returncode, text in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--context", "100"), 2, "too short"),
        (("--context", "99999999"), 2, "more than any was trained for"),
        (("--ram", "0"), 2, "above zero"),
        (("--compare",), 2, "No box is named"),
        (("qwen3:8b", "--compare", "rtx 3090"), 2, "over the whole catalogue"),
        (("qwen3:8b", "--for", "embed"), 2, "not made to embed"),
        (("bge-m3", "--for", "chat"), 2, "It is made for embed"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], code: int, text: str) -> None:
    done = snugly("plan", *words)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_what_was_assumed_is_said() -> None:
    done = snugly("plan", "qwen3:4b", "-t", "Q4_K_M", "--vram", "12GB")
    assert "RAM was not named" in done.stderr
    assert "bandwidth of GPU 0 was not told" in done.stderr
    assert "snugly quantize" not in done.stderr


def test_the_recommended_command_is_in_the_table_and_fits_its_context() -> None:
    words = ("plan", "--on", "steam deck", "--for", "code")
    told = json.loads(snugly(*words, "--json").stdout)
    best = told["recommended"]
    assert best["command"] == f"snugly run -m {best['ref']} --context {best['context']}"
    assert best["longest_context"] >= best["context"]
    assert any(way["ref"] == best["ref"] for way in told["front"])
    table = snugly(*words).stdout.partition("MODEL ")[2].splitlines()
    assert table[1].split()[:2] == [best["model"], best["type"]]


def test_the_longest_context_is_that_of_the_cache_that_is_used() -> None:
    told = json.loads(snugly("plan", "--ram", "16GB", "--json").stdout)
    for way in (told["recommended"], told["faster"], told["better"]):
        assert way is None or way["longest_context"] >= way["context"]


def test_what_makes_vectors_is_measured_by_reading_and_served() -> None:
    done = snugly("plan", "--for", "embed", "--on", "16gb laptop")
    assert "snugly serve -m" in done.stdout
    assert "Writes" not in done.stdout
    assert "First word" not in done.stdout
    named = json.loads(snugly("plan", "bge-m3", "--json").stdout)
    assert named["need"]["task"] == "embed"
    assert named["recommended"]["quality"] > 0


def test_no_command_is_shown_for_what_has_no_file(config: str) -> None:
    done = snugly("plan", config, "--ram", "32GB")
    assert "snugly run" not in done.stdout
    assert "snugly quantize" in done.stderr


def test_figures_are_whole_on_a_narrow_terminal() -> None:
    done = snugly("plan", "--on", "16gb laptop", COLUMNS="60")
    table = done.stdout.partition("MODEL ")[2].splitlines()[1:]
    assert table
    assert not any("…" in row for row in table)
    assert max(map(len, table)) <= 60
