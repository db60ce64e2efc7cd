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
