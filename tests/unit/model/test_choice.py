import pytest

from snugly.errors import UnknownModel, UserError
from snugly.model.sources import Wish
from snugly.model.sources.choice import choose, stored_names

FILES = (
    "README.md",
    "config.json",
    "M-Q4_K_M.gguf",
    "M-Q8_0.gguf",
    "M-UD-Q4_K_XL.gguf",
    "M-imatrix.gguf",
    "mmproj-M-F16.gguf",
    "BF16/M-BF16-00001-of-00002.gguf",
    "BF16/M-BF16-00002-of-00002.gguf",
    "M-Q6_K-00001-of-00002.gguf",
)


def wish(**parts: str) -> Wish:
    return Wish(text="p/M", source="hub", publisher="p", model="M", **parts)


def test_without_a_word_the_usual_quantization() -> None:
    assert choose(FILES, wish()) == ("M-Q4_K_M.gguf",)
    assert choose(("a-Q8_0.gguf", "a-F16.gguf"), wish()) == ("a-Q8_0.gguf",)
    assert choose(("only-this-one.gguf", "mmproj-x.gguf"), wish()) == ("only-this-one.gguf",)


@pytest.mark.parametrize(
    ("tag", "first"),
    [("q8_0", "M-Q8_0.gguf"), ("UD-Q4_K_XL", "M-UD-Q4_K_XL.gguf"),
     ("BF16", "BF16/M-BF16-00001-of-00002.gguf"), ("M-Q8_0", "M-Q8_0.gguf")],
)  # fmt: skip
def test_a_tag_names_a_quantization_in_any_case(tag: str, first: str) -> None:
    assert choose(FILES, wish(quantization=tag))[0] == first


def test_all_parts_of_a_split_model_in_order() -> None:
    assert choose(FILES, wish(file="BF16/M-BF16-00002-of-00002.gguf")) == FILES[7:9]


def test_a_model_with_a_missing_part_is_not_offered() -> None:
    with pytest.raises(UnknownModel) as error:
        choose(FILES, wish(quantization="Q6_K"))
    assert "Q4_K_M" in error.value.because
    assert "Q6_K" not in error.value.because


def test_a_projector_is_never_the_model() -> None:
    with pytest.raises(UnknownModel, match="no GGUF model"):
        choose(("mmproj-M-F16.gguf", "model.safetensors"), wish())


def test_a_wrong_file_name_suggests_the_near_one() -> None:
    with pytest.raises(UnknownModel) as error:
        choose(FILES, wish(file="M-Q4_K_N.gguf"))
    assert "M-Q4_K_M.gguf" in error.value.remedy


def test_two_models_of_one_quantization_must_be_told_apart() -> None:
    with pytest.raises(UserError) as error:
        choose(("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"), wish(quantization="Q4_K_M"))
    assert "p/M/a-Q4_K_M.gguf" in error.value.remedy
    both = ("a-Q4_K_M.gguf", "b-Q4_K_M.gguf")
    assert choose(both, wish(quantization="Q4_K_M", pattern="B-*")) == ("b-Q4_K_M.gguf",)


def test_whole_wins_over_the_same_weights_in_parts() -> None:
    files = ("a-q4_k_m-00001-of-00002.gguf", "a-q4_k_m-00002-of-00002.gguf", "a-q4_k_m.gguf")
    assert choose(files, wish(quantization="Q4_K_M")) == ("a-q4_k_m.gguf",)


def test_folders_are_kept_in_names_only_where_names_would_meet() -> None:
    files = ("x/m.gguf", "y/M.gguf", "z/n.gguf")
    assert stored_names(("x/m.gguf",), files) == ("x__m.gguf",)
    assert stored_names(("z/n.gguf",), files) == ("n.gguf",)
    assert choose(files, wish(file="x__m.gguf")) == ("x/m.gguf",)
