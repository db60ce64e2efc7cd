"""Rows of bench/data/speeds.csv as the planner sees them: a build, processors, lengths.

What a row does not tell and the prediction needs makes it unusable; the reasons are counted.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from speed_devices import processor

from snugly.errors import UserError
from snugly.model.build import build_of, weight_bytes
from snugly.model.config import spec_of_config
from snugly.model.quant_size import in_type
from snugly.model.types import Attention, AttentionKind, Build, LayerWeights, ModelSpec
from snugly.plan.speed_lanes import UBATCH
from snugly.plan.speed_terms import FAMILIES, weights_in
from snugly.plan.types import Processor

ROWS = Path(__file__).parent / "data" / "speeds.csv"
CONFIGS = Path(__file__).parents[1] / "tests" / "golden" / "configs" / "configs.json"
GIB = 1 << 30
FASTEST = 2.0  # times the data sheet's rate: beyond it the figure is no measurement

# Bits per weight of Llama-3.1-8B in each mixture: llama.cpp tools/quantize/README.md, whose
# table ends at IQ1_S; Q4_0, Q4_1 and MXFP4 as ggml's block sizes give them for the same model.
# "XL" mixtures (Unsloth) keep some tensors in larger types: 2 to 12% above the plain ones in
# the rows that state a file size.
BITS = {
    "IQ1_S": 2.0042, "IQ1_M": 2.1460, "IQ2_XXS": 2.3824, "IQ2_XS": 2.5882, "IQ2_S": 2.7403,
    "IQ2_M": 2.9294, "IQ3_XXS": 3.2548, "IQ3_XS": 3.4977, "IQ3_S": 3.6606, "IQ3_M": 3.7628,
    "IQ4_XS": 4.4597, "IQ4_NL": 4.6818, "Q2_K_S": 2.9697, "Q2_K": 3.1593, "Q3_K_S": 3.6429,
    "Q3_K_M": 3.9960, "Q3_K_L": 4.2979, "Q4_0": 4.6671, "Q4_1": 5.1, "Q4_K_S": 4.6672,
    "Q4_K_M": 4.8944, "Q4_K_L": 5.0, "Q5_K_S": 5.5704, "Q5_K_M": 5.7036, "Q6_K": 6.5633,
    "Q8_0": 8.5008, "F16": 16.0005, "BF16": 16.0005, "MXFP4": 4.5,
    "Q2_K_XL": 3.4, "Q3_K_XL": 4.2, "Q4_K_XL": 5.0, "Q5_K_XL": 5.8, "Q6_K_XL": 7.0,
    "Q8_K_XL": 9.5,
}  # fmt: skip
# The tensor type that most of a mixture is made of.
MAIN = {"Q2_K": "Q2_K", "Q3_K": "Q3_K", "Q4_K": "Q4_K", "Q5_K": "Q5_K", "Q6_K": "Q6_K",
        "Q8_K": "Q8_0", "Q8_0": "Q8_0", "IQ2_M": "IQ2_S", "IQ3_M": "IQ3_S",
        "IQ3_XS": "IQ3_XXS"}  # fmt: skip
KINDS = (("cuda", "cuda"), ("hip", "rocm"), ("roc", "rocm"), ("vulkan", "vulkan"),
         ("metal", "metal"), ("cpu", "cpu"))  # fmt: skip
# Where a row says only "llama.cpp", "llamacpp" or "ollama". On AMD it may be ROCm or Vulkan.
USUAL = {"nvidia": "cuda", "apple": "metal", "amd": "vulkan", "intel": "vulkan", "cpu": "cpu"}
# The same shape under another name.
ALIASES = {"metallama38b": "meta-llama__Llama-3.1-8B", "metallama370b": "meta-llama__Llama-3.1-70B",
           "llama27b": "meta-llama__Llama-2-7b-hf", "qwen36": "", "qwen35": "",
           "gemma431b": "nvidia__Gemma-4-31B-IT-NVFP4", "lfm2512b": "LiquidAI__LFM2.5-VL-1.6B",
           "deepseekr1distillqwen15b": "Qwen__Qwen2.5-Coder-1.5B-Instruct"}  # fmt: skip
# Of a model of which only sizes are known: words in its vocabulary, the median of the configs;
# below 4B weights input and output are one matrix; and never more than the share that the
# configs' quarter with most of it has.
VOCABULARY, TIED, OUTSIDE = 131_072, 4e9, 0.26


@dataclass(frozen=True, slots=True)
class Row:
    """One measured run. Rates are 0 where they were not measured."""

    source: str
    device: str
    kind: str
    count: int  # GPUs of the same name, layers split evenly
    processor: Processor
    build: Build
    exact: bool  # the build comes from the model's own config, not from a rule of thumb
    quant: str
    prompt: int
    prompt_depth: float
    answer_depth: float  # mean number of tokens looked back on while answering
    flash_attention: bool
    ubatch: int  # tokens of a prompt computed at once
    age: float  # of the engine, in years before the newest rows
    decode_tps: float
    prefill_tps: float
    prefill_aside: str  # why its prefill is not compared
    row: dict[str, str]


class Unusable(Exception):
    """Why a row cannot be predicted."""


def rows(path: Path = ROWS) -> tuple[list[Row], Counter[str]]:
    """The usable rows of a file, and how many are not, by reason."""
    found, reasons = [], Counter[str]()
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            try:
                found.append(read(line))
            except Unusable as reason:
                reasons[str(reason)] += 1
    return found, reasons


def read(line: dict[str, str]) -> Row:
    """One line. Raises: Unusable with the reason."""
    kind = kind_of(line)
    if line["batch"] not in ("", "1"):
        raise Unusable("several sequences at once")
    many = re.match(r"(\d+)x (.*)", line["device"])
    count, name = (int(many[1]), many[2]) if many else (1, line["device"])
    vram = float(line["vram_gib"] or 0)
    place = processor(name, kind, vram / count, float(line["mem_bandwidth_gbs"] or 0))
    if place is None:
        raise Unusable("rates of the device not known")
    prompt, depth, answer_depth = lengths(line)
    build, exact = build_for(line)
    # The window was set aside whole; 4 KiB per layer and token are 8 heads of 128 in f16.
    window = float(line["context_or_depth"] or 0) * 4096 * len(build.weights)
    if kind != "cpu" and vram and weight_bytes(build) + window > 0.9 * vram * GIB:
        raise Unusable("larger than the GPU: how it was split is not told")
    # llama-bench had flash attention off in May 2024; elsewhere it is on unless told.
    flash = line["flash_attn"] == "1" or (
        line["flash_attn"] == "" and not line["source"].startswith("Xiong")
    )
    row = Row(
        line["source"],
        line["device"],
        kind,
        count,
        place,
        build,
        exact,
        line["quant"].upper(),
        prompt,
        depth,
        answer_depth,
        flash,
        ubatch(line),
        age(line),
        float(line["decode_tps"] or 0),
        float(line["prefill_tps"] or 0),
        aside(line, prompt),
        line,
    )
    if row.prefill_tps * 2 * params_active(build) > FASTEST * peak(place):
        row = replace(row, prefill_aside="prompts faster than the device computes")
    cache = 4.0 * 1024 * len(build.weights) * max(answer_depth, depth)
    if not exact and cache > 0.15 * active_bytes(build):
        raise Unusable("deep in a context, and the model's cache is not known")
    return row


def ubatch(line: dict[str, str]) -> int:
    """The engine's micro-batch, unless a smaller batch was told."""
    told = re.search(r"n_batch (\d+)", line["notes"])
    return min(UBATCH, int(told[1])) if told else UBATCH


def age(line: dict[str, str]) -> float:
    """Years between the row's build of llama.cpp and the newest rows, of spring 2026.

    The oldest rows say May 2024; those that tell a build have b5863 to b6118, of July and August
    2025. The others name models of 2026 or tell nothing, and count as new.
    """
    if "May 2024" in line["notes"]:
        return 2.0
    return 0.8 if re.search(r"build b(5[89]|6[01])\d\d", line["notes"]) else 0.0


def aside(line: dict[str, str], prompt: int) -> str:
    """Why a row's prefill is no measure of what the backend does today; "" for most.

    Flash attention by HIP without rocWMMA (which build b5863 lacked under that name too: it is as
    fast as without) is slower than none in the same build, at 4,096 tokens 1.7 to 3.5 times:
    `bench/speed_floor.py` prints the pairs. Newer builds have kernels for these matrix units.

    rocBLAS without hipBLASLt reaches a fraction on the 8060S, as the source itself shows by
    running both. AMDVLK was given up by AMD (GPUOpen-Drivers/AMDVLK issue 405): with the engines of
    2026 it is mostly 1.5 to 5 times slower than RADV (issue 420: half of the shared memory). With
    those of 2025 it was the faster one, so these rows count.
    """
    if prompt < 64:
        return "prompts of under 64 tokens measure start-up"
    halo = line["source"].startswith("lhl")
    if halo and re.search("hip|wmma", line["backend"]) and "hipblaslt 1" not in line["notes"]:
        return "ROCm on Strix Halo without hipBLASLt"
    hip = "hip" in line["backend"] or ("wmma" in line["backend"] and "b5863" in line["notes"])
    if halo and hip and line["flash_attn"] == "1":
        return "flash attention by HIP without rocWMMA"
    return "AMDVLK with a new engine" if "amdvlk" in line["backend"] and not halo else ""


def peak(place: Processor) -> float:
    """Operations per second of the data sheet, in whichever type has the most."""
    return max(place.f16_flops.or_else(0.0), place.int8_ops.or_else(0.0))


def params_active(build: Build) -> float:
    """Weights that a token of a prompt goes through."""
    share = build.experts_used / build.experts if build.experts else 1.0
    dense = experts = 0.0
    for layer in build.weights:
        found = weights_in(layer.dense), weights_in(layer.experts)
        dense += sum(found[0][name] for name in FAMILIES)
        experts += sum(found[1][name] for name in FAMILIES)
    return dense + share * experts


def active_bytes(build: Build) -> float:
    """Bytes of weights that one token reads."""
    share = build.experts_used / build.experts if build.experts else 1.0
    layers = sum(
        sum(n for _, n in w.dense) + share * sum(n for _, n in w.experts) for w in build.weights
    )
    return layers + sum(n for _, n in build.output)


def kind_of(line: dict[str, str]) -> str:
    """What computed. Raises: Unusable for engines that Snugly does not run."""
    backend = line["backend"]
    if backend.startswith(("vllm", "sglang", "mlx")):
        raise Unusable("another engine (vLLM, SGLang, MLX)")
    if "hexagon" in backend or "opencl" in backend:
        raise Unusable("a backend that Snugly does not offer (Hexagon, OpenCL)")
    for word, kind in KINDS:
        if word in backend:
            return kind
    if line["device_kind"] not in USUAL:
        raise Unusable("backend not told")
    return USUAL[line["device_kind"]]


def lengths(line: dict[str, str]) -> tuple[int, float, float]:
    """Prompt tokens, depth they start at, mean depth of the answer. Raises: Unusable."""
    notes = line["notes"]
    if bench := re.search(r"pp(\d+)/tg(\d+)", notes):
        depth = float(line["context_or_depth"] or 0)
        return int(bench[1]), depth, depth + int(bench[2]) / 2
    if told := re.search(r"prompt (\d+) out (\d+)", notes):
        return int(told[1]), 0.0, int(told[1]) + int(told[2]) / 2
    if short := re.search(r"([\d.]+) output tokens", notes):
        return 0, 0.0, 50 + float(short[1]) / 2  # its prompts are a line of text
    raise Unusable("lengths of prompt and answer not told")


def build_for(line: dict[str, str]) -> tuple[Build, bool]:
    """The model: from its config where we have one, else from its numbers. Raises: Unusable."""
    quant = line["quant"].upper().removeprefix("UD-")
    if quant not in BITS:
        raise Unusable("quantization not told, or none of llama.cpp's")
    file_bytes = float(line["file_bytes"] or 0)
    name = config_named(line["model"])
    if name:
        build = configured(name, quant)
        if build and file_bytes and not 0.75 < file_bytes / build.file_bytes < 1.33:
            # The file is of other types than it is named by, as gpt-oss "F16", whose experts
            # are MXFP4: the mixture of as many bits per weight stands for it.
            bits = file_bytes * 8 / build.n_params
            quant = min(BITS, key=lambda known: abs(math.log(BITS[known] / bits)))
            build = configured(name, quant)
        if build:
            scale = (
                file_bytes / build.file_bytes if file_bytes else BITS[quant] / BITS[build.file_type]
            )
            return (scaled(build, scale) if not 0.97 < scale < 1.03 else build), True
    if "active parameters not stated" in line["notes"]:
        raise Unusable("mixture without its active parameters")
    params = float(line["params_b"] or 0) * 1e9
    rounded = "rounded to integer" in line["notes"]
    if file_bytes:
        params = params if params and not rounded else file_bytes * 8 / BITS[quant]
    elif not params or rounded:
        raise Unusable("number of parameters not told, or rounded")
    active = float(line["active_params_b"] or 0) * 1e9
    if not active and re.search(r"\bA\d+(\.\d+)?B", line["model"]):
        raise Unusable("mixture without its active parameters")
    return guessed(params, active or params, quant, file_bytes or params * BITS[quant] / 8), False


def normal(name: str) -> str:
    """A model's name without what varies between publishers."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def names() -> dict[str, str]:
    """Config by normalised name, longest first."""
    configs = json.loads(CONFIGS.read_text(encoding="utf-8"))
    found = dict(ALIASES)
    for key in configs:
        short = re.sub(r"-(Instruct|it|chat|hf|Chat|Base)\b.*", "", key.split("__")[1])
        found.setdefault(normal(short), key)
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def config_named(model: str) -> str:
    """The config of a model of that name, "" when there is none."""
    wanted = normal(model.split("/")[-1])
    return next((key for short, key in names().items() if short in wanted), "")


@cache
def spec_named(key: str) -> ModelSpec | None:
    """The model of a config in F16."""
    config = json.loads(CONFIGS.read_text(encoding="utf-8"))[key]
    try:
        return spec_of_config(config, key)
    except UserError:
        return None


@cache
def configured(key: str, quant: str) -> Build | None:
    """A model of a config in the mixture nearest to `quant`."""
    spec = spec_named(key)
    if spec is None:
        return None
    nearest = {"Q8_K_XL": "Q8_0", "Q4_K_L": "Q4_K_M", "BF16": "F16", "MXFP4": "MXFP4_MOE"}.get(
        quant, re.sub(r"_XL$", "_M", quant).replace("Q6_K_M", "Q6_K").replace("Q2_K_M", "Q2_K")
    )
    try:
        return replace(build_of(in_type(spec, nearest)), file_type=quant)
    except UserError:
        return None


def scaled(build: Build, factor: float) -> Build:
    """The same shape with all bytes times `factor`."""

    def part(items: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
        return tuple((kind, round(n * factor)) for kind, n in items)

    layers = {w: LayerWeights(part(w.dense), part(w.experts)) for w in set(build.weights)}
    return replace(
        build,
        file_bytes=round(build.file_bytes * factor),
        weights=tuple(layers[w] for w in build.weights),
        embedding=part(build.embedding),
        output=part(build.output),
    )


def guessed(params: float, active: float, quant: str, n_bytes: float) -> Build:
    """A model of which only sizes are known, in the shape that most of that size have.

    Layers: 32 for 8B, growing with the power 0.3 (of 57 configs within a third); a width
    that gives the parameters, the vocabulary's counted; keys and values of 1,024 elements each.
    """
    layers = round(min(90, max(12, 32 * (params / 8e9) ** 0.3)))
    matrices = 1 if params < TIED else 2
    within = active
    for _ in range(4):  # the width decides what is outside, and that the width
        width = math.sqrt(within / 12 / layers)
        outside = min(matrices * VOCABULARY * width, OUTSIDE * params, 0.5 * active)
        within = active - outside
    kind = next((main for start, main in MAIN.items() if quant.startswith(start)), quant)
    kind = {"BF16": "BF16", "F16": "F16"}.get(quant, kind)
    # Of a mixture some 1.2% is dense, and all experts together the rest.
    routed = params - outside - 0.012 * params if active < params else 0.0
    share = max(0.0, within - 0.012 * params) / routed if routed else 0.0
    per_weight = n_bytes / params
    dense = (params - outside - routed) * per_weight / layers
    experts = routed * per_weight / layers
    weights = LayerWeights(((kind, round(dense)),), ((kind, round(experts)),) if experts else ())
    attention = Attention(AttentionKind.FULL, 8, 128, 128)
    head = ((kind, round(outside * per_weight / matrices)),)
    return Build(
        quant, "", quant, round(n_bytes), round(params), (attention,) * layers,
        (weights,) * layers, head if matrices > 1 else (), head, False, 1 << 17, round(width),
        round(3 * width), max(1, round(width / 128)), 0, 0, 10000 if experts else 0,
        round(10000 * share) if experts else 0, True,
    )  # fmt: skip


def base(device: str) -> str:
    """A device without its count and memory: two of a kind are left out together."""
    return re.sub(r"^\d+x ", "", device)
