"""MMLU's choices over the server's log probabilities, beside transformers' on the same weights.

    snugly serve -m smollm2 &
    python bench/mmlu_agreement.py --model smollm2 --gguf SmolLM2-135M-Instruct.Q4_1.gguf

Needs torch, transformers and gguf (`pip install torch transformers gguf accelerate`), not
Snugly: what is measured is the server's answers. Each question is asked as
lm-evaluation-harness does: four lists of tokens, `echo`, `logprobs: 1`, `max_tokens: 1`, the
last token of the prompt is a letter. transformers reads the GGUF's tensors as f32 numbers
and computes in f32; llama.cpp computes with 8-bit activations, so that choices whose
probabilities nearly tie may differ.
"""

import argparse
import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

LETTERS = ("A", "B", "C", "D")
ITEMS = Path(__file__).parent / "data/mmlu-100.jsonl"


def post(url: str, body: Any) -> Any:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def question(item: Any) -> str:
    choices = "\n".join(
        f"{letter}. {text}" for letter, text in zip(LETTERS, item["choices"], strict=True)
    )
    return f"{item['question'].strip()}\n{choices}\nAnswer:"


def tokens(url: str, model: str, text: str) -> list[int]:
    found: list[int] = post(f"{url}/tokenize", {"model": model, "prompt": text})["tokens"]
    return found


def served(url: str, model: str, prompt: list[int], letters: list[int]) -> list[float]:
    """The server's log probability of each letter after a prompt."""
    body = {
        "model": model, "prompt": [[*prompt, letter] for letter in letters],
        "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0, "seed": 1234,
    }  # fmt: skip
    choices = post(f"{url}/v1/completions", body)["choices"]
    return [float(choice["logprobs"]["token_logprobs"][-2]) for choice in choices]


class Reference:
    """transformers on the GGUF's own weights."""

    def __init__(self, path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32
        ).eval()

    def logprobs(self, prompt: list[int], letters: list[int]) -> list[float]:
        """Its log probability of each letter after a prompt."""
        with self._torch.no_grad():
            logits = self._model(self._torch.tensor([prompt])).logits[0, -1]
        all_of_them = self._torch.log_softmax(logits, dim=-1)
        return [float(all_of_them[letter]) for letter in letters]


def best(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8484")
    parser.add_argument("--model", required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--items", type=Path, default=ITEMS)
    options = parser.parse_args()
    items = [json.loads(line) for line in options.items.read_text("utf-8").splitlines()]
    letters = [tokens(options.url, options.model, f" {letter}")[-1] for letter in LETTERS]
    prompts = [tokens(options.url, options.model, question(item)) for item in items]
    began = time.monotonic()
    ours = [served(options.url, options.model, prompt, letters) for prompt in prompts]
    seconds = time.monotonic() - began
    os.environ["HF_HUB_OFFLINE"] = "1"
    reference = Reference(options.gguf)
    theirs = [reference.logprobs(prompt, letters) for prompt in prompts]
    same = 0
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        same += best(a) == best(b)
        if best(a) != best(b):
            gap = sorted(b)[-1] - b[best(a)]
            print(f"item {number}: {LETTERS[best(a)]} here, {LETTERS[best(b)]} there,"
                  f" {gap:.4f} apart there")  # fmt: skip
    far = [abs(x - y) for a, b in zip(ours, theirs, strict=True) for x, y in zip(a, b, strict=True)]
    counts = ", ".join(f"{x} {sum(best(a) == i for a in ours)}" for i, x in enumerate(LETTERS))
    right = sum(best(a) == item["answer"] for a, item in zip(ours, items, strict=True))
    print(f"{same} of {len(items)} choices equal transformers' ({100 * same / len(items):.1f}%)")
    print(
        f"log probabilities differ by {sum(far) / len(far):.4f} on average, {max(far):.4f} at most"
    )
    print(f"chosen here: {counts}")
    print(f"accuracy {right} of {len(items)}; {4 * len(items)} lists scored in {seconds:.1f} s")


if __name__ == "__main__":
    main()
