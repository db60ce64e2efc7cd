"""The process that OpenVINO GenAI runs in: `python -m snugly.engine.openvino_worker PARENT_PID`.

The protocol is that of `snugly.engine.worker`, the HTTP dialect is llama-server's.
"""

import json
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

from snugly.engine.openvino_app import make_app
from snugly.engine.openvino_batch import Answer, Batch
from snugly.engine.openvino_request import Asked
from snugly.engine.worker import die_with_parent, watch_parent

BLOCK_TOKENS = 32  # of the KV cache on a CPU; on GPUs it is 16 (openvino.genai, README)
# Tokens by which models end a turn, whatever their header calls the end (llama.cpp
# src/llama-vocab.cpp, special_eog_ids).
_ENDS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>",
)  # fmt: skip
_PRECISIONS = {"F16": "f16", "F32": "f32", "BF16": "bf16", "Q8_0": "u8", "Q4_0": "u4"}


class GenAiModel:
    """A loaded model: the pipeline, its tokenizer, and the thread that computes."""

    def __init__(self, config: dict[str, Any]) -> None:
        import openvino_genai  # type: ignore[import-not-found, unused-ignore]

        self._genai = openvino_genai
        self.context = int(config["context"])
        pipe = openvino_genai.ContinuousBatchingPipeline(
            config["model_path"], _scheduler(openvino_genai, config), config["device"],
            properties(config),
        )  # fmt: skip
        self._tokenizer = pipe.get_tokenizer()
        self._lookup = bool(config.get("prompt_lookup"))
        vocabulary = self._tokenizer.get_vocab()
        ends = {vocabulary[end.encode()] for end in _ENDS if end.encode() in vocabulary}
        self._ends = ends | {self._tokenizer.get_eos_token_id()}
        self._batch = Batch(pipe)

    def prompt_of(self, asked: Asked) -> str:
        """The messages through the chat template."""
        text: str = self._tokenizer.apply_chat_template(
            list(asked.messages), True, extra_context=asked.template or None
        )
        return text

    def tokens_of(self, text: str, add_special: bool) -> list[int]:
        """The ids of a text's tokens. A first token that the template wrote is not doubled."""
        found = self._tokenizer.encode(text, add_special_tokens=add_special).input_ids
        tokens = [int(token) for token in found.data[0]]
        first = self._tokenizer.get_bos_token_id()
        return tokens[1:] if tokens[:2] == [first, first] else tokens

    def text_of(self, tokens: Iterable[int], special: bool = False) -> str:
        """The text of tokens; special ones are left out unless wanted."""
        wanted = [int(token) for token in tokens]
        text: str = self._tokenizer.decode(wanted, skip_special_tokens=not special)
        return text

    def begin(self, tokens: list[int], asked: Asked, limit: int) -> Answer:
        """Start an answer of at most `limit` tokens."""
        import numpy as np
        import openvino  # type: ignore[import-not-found, unused-ignore]

        config = self._genai.GenerationConfig(max_new_tokens=limit, **asked.options)
        config.stop_token_ids = self._ends
        if asked.schema:
            config.structured_output_config = self._genai.StructuredOutputConfig(
                json_schema=asked.schema
            )
        if self._lookup:
            config.num_assistant_tokens, config.max_ngram_size = 5, 3
        ids = openvino.Tensor(np.array([tokens], dtype=np.int64))
        return self._batch.begin(ids, config)

    def cancel(self, answer: Answer) -> None:
        """Let an answer be."""
        self._batch.cancel(answer)


def _scheduler(genai: Any, config: dict[str, Any]) -> Any:
    """Room for the context, with what was read before kept in it."""
    scheduler = genai.SchedulerConfig()
    # One block more for each sequence: they share none that is half full.
    blocks = -(-int(config["context"]) // BLOCK_TOKENS) + int(config.get("n_seq", 1))
    scheduler.num_kv_blocks = blocks
    scheduler.max_num_batched_tokens = int(config["ubatch"])
    scheduler.max_num_seqs = int(config.get("n_seq", 1))
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    return scheduler


def properties(config: dict[str, Any]) -> dict[str, Any]:
    """What the plan has chosen, by OpenVINO's names."""
    found: dict[str, Any] = {
        "KV_CACHE_PRECISION": _PRECISIONS.get(config.get("kv_type", "F16"), "f16"),
    }
    if config["device"] == "CPU":
        found["INFERENCE_NUM_THREADS"] = int(config["threads"])
    if config.get("prompt_lookup"):
        found["prompt_lookup"] = True
    return found


def main() -> None:
    """Serve one model until told to stop or until the parent is gone."""
    die_with_parent(int(sys.argv[1]))
    config = json.loads(sys.stdin.buffer.readline())
    answer = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=watch_parent, args=(config["socket"],), daemon=True).start()
    try:
        model = GenAiModel(config)
    except Exception as error:
        # The library's exceptions are many lines of C++ places: the last one says what it is.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
        print(f"error loading model: {lines[-1]}", file=sys.stderr, flush=True)
        os._exit(1)
    _serve(make_app(model), config, answer)


def _serve(app: Any, config: dict[str, Any], answer: int) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            os.write(answer, b'{"event": "listening"}\n')
            os.close(answer)

    where = {"uds": config["socket"]} if config["socket"] else {"port": config["port"]}
    told = uvicorn.Config(app, **where, log_level="warning", access_log=False, lifespan="off")
    Server(told).run()
    os._exit(0)  # the computing thread may be in the middle of a step


if __name__ == "__main__":
    main()
