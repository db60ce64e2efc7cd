"""What the process that runs transformers does: make a checkpoint, ask one. Needs an extra.

For worker processes alone (see `measure_worker`): imports are heavy, libraries print what they
like, and memory is the system's again when the process ends.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from snugly.errors import BadModelFile, UserError
from snugly.quantize.transformers_libraries import libraries
from snugly.quantize.transformers_loading import first_line, loaded, tokenizer_of

Say = Callable[[dict[str, Any]], None]
_PLAIN = ("float32", "float16", "bfloat16")
_REST = "bfloat16"  # what a quantized model keeps everything else in; as in model.footprint
# What a finished checkpoint is asked, to see that it can be loaded and answers.
_ASKED = "The capital of France is"
_ANSWER_TOKENS = 8


def make(config: dict[str, Any], say: Say) -> None:
    """Write a checkpoint, load it again and let it answer.

    `source`: a folder with a checkpoint or a GGUF file; `target`: an empty folder; `scratch`:
    another, for the weights of a GGUF; `dtype`; `threads`.
    """
    torch, transformers = libraries(int(config["threads"]))
    source, dtype, target = Path(config["source"]), str(config["dtype"]), str(config["target"])
    say({"step": 0, "what": "reading"})
    if source.is_file():
        plain = dtype if dtype in _PLAIN else _REST
        folder = target if dtype in _PLAIN else str(config["scratch"])
        _from_gguf(torch, transformers, source, folder, plain)
    else:
        _demand_finite(torch, source)
        folder = str(source)
    say({"step": 1, "what": "converting"})
    if folder != target:
        how = _how(torch, transformers, dtype)
        model = loaded(transformers, folder, dtype=_type(torch, dtype), **how)
        with _writing(target):
            model.save_pretrained(target)
            tokenizer_of(transformers, folder).save_pretrained(target)
        del model
        gc.collect()  # the next one takes its place
    say({"step": 2, "what": "loading"})
    model = loaded(transformers, target, dtype="auto")
    printed, beside = int(model.get_memory_footprint()), scale_bytes(model)
    say({"step": 3, "what": "asking"})
    answer, remark = _answer(torch, transformers, model, target)
    say({"printed_bytes": printed, "true_bytes": printed + beside, "answer": answer,
         "remarks": [remark] if remark else [],
         "versions": {name: _version(name) for name in
                      ("torch", "transformers", "bitsandbytes")}})  # fmt: skip


def ask(config: dict[str, Any], say: Say) -> None:
    """The answer of a checkpoint to each question, always taking its likeliest word.

    `source`: its folder; `questions`, `max_tokens`, `threads`.
    """
    torch, transformers = libraries(int(config["threads"]))
    tokenizer = tokenizer_of(transformers, config["source"])
    model = loaded(transformers, config["source"], dtype="auto")
    for question in config["questions"]:
        if tokenizer.chat_template:
            inputs = tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], add_generation_prompt=True,
                return_tensors="pt", return_dict=True,
            )  # fmt: skip
        else:
            inputs = tokenizer(question, return_tensors="pt")
        with torch.inference_mode():
            said = model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"],
                max_new_tokens=int(config["max_tokens"]), do_sample=False,
            )[0]  # fmt: skip
        new = said[inputs["input_ids"].shape[1] :]
        say({"answer": str(tokenizer.decode(new, skip_special_tokens=True)).strip()})


def scale_bytes(model: Any) -> int:
    """What bitsandbytes keeps beside the parameters, where get_memory_footprint() does not see it.

    Source: bitsandbytes 0.50.2 functional.py (QuantState), nn/modules.py (Int8Params.SCB).
    """
    total = 0
    for weight in model.parameters():
        for tensor in _beside(weight):
            total += tensor.numel() * tensor.element_size()
    return total


def _beside(weight: Any) -> Iterator[Any]:
    state = getattr(weight, "quant_state", None)
    while state is not None:
        yield from (state.absmax, state.code)
        if getattr(state, "offset", None) is not None:
            yield state.offset
        state = getattr(state, "state2", None)
    scales = getattr(weight, "SCB", None)
    if scales is not None:
        yield scales


def _type(torch: Any, dtype: str) -> Any:
    return getattr(torch, dtype if dtype in _PLAIN else _REST)


def _how(torch: Any, transformers: Any, dtype: str) -> dict[str, Any]:
    """Arguments of from_pretrained that quantize; none for a plain type."""
    if dtype in _PLAIN:
        return {}
    if dtype == "int8":
        config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    else:
        kind, _, double = dtype.partition("-")
        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=kind,
            bnb_4bit_use_double_quant=double == "dq",
            bnb_4bit_compute_dtype=getattr(torch, _REST),
        )
    return {"quantization_config": config}


@contextmanager
def _writing(folder: str) -> Iterator[None]:
    stored = import_module("safetensors")
    try:
        yield
    except (OSError, stored.SafetensorError) as error:
        raise UserError(
            "The checkpoint cannot be written.",
            f"{first_line(error)} ({folder}).",
            "Make room, or give another disk with --out.",
        ) from error


def _from_gguf(torch: Any, transformers: Any, source: Path, folder: str, dtype: str) -> None:
    """A checkpoint of the weights of a GGUF, decoded. Source: transformers docs, "GGUF"."""
    where = {"gguf_file": source.name, "local_files_only": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(source.parent), **where)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            str(source.parent), **where, dtype=getattr(torch, dtype),
            quantization_config=transformers.GgufConfig(dequantize=True),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise UserError(
            f"transformers cannot read {source.name}.",
            f"{first_line(error)}.",
            "Start from the folder of the original checkpoint.",
        ) from error
    # It is no quantized model any more, and must not be saved as one.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for name, weight in model.named_parameters():
        _demand_numbers(torch, name, weight.data, str(source))
    with _writing(folder):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _demand_finite(torch: Any, folder: Path) -> None:
    """Every weight is a number; read one tensor at a time. Raises: BadModelFile."""
    stored = import_module("safetensors")
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with stored.safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    _demand_numbers(torch, name, file.get_tensor(name), str(path))
        except stored.SafetensorError as error:
            raise BadModelFile(
                f"{path.name} is damaged.", f"{error} ({path}).", "Fetch the checkpoint again."
            ) from error


def _demand_numbers(torch: Any, name: str, tensor: Any, path: str) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise BadModelFile(
            f"Tensor {name!r} is damaged.",
            f"A weight is not a finite number ({path}).",
            "Fetch the file again, or ask whoever made it.",
        )


def _answer(torch: Any, transformers: Any, model: Any, folder: str) -> tuple[str, str]:
    """What the model says, or why it says nothing here."""
    tokenizer = tokenizer_of(transformers, folder)
    inputs = tokenizer(_ASKED, return_tensors="pt")
    try:
        with torch.inference_mode():
            said = model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"],
                max_new_tokens=_ANSWER_TOKENS, do_sample=False,
            )[0]  # fmt: skip
    except (RuntimeError, NotImplementedError) as error:
        if "DefaultCPUAllocator" in str(error):
            raise MemoryError from error
        # bitsandbytes 0.50.2 computes 4 bits on a processor only where rows are whole blocks of
        # 64; the same files run on a GPU.
        return "", f"It is whole, but cannot be run on this processor: {first_line(error)}."
    return str(tokenizer.decode(said, skip_special_tokens=True)), ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
