"""The verbs. Each lives in a module of its own that is imported when it is called."""

import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from snugly import __version__
from snugly.cli.render import render_error
from snugly.errors import SnuglyError, UserError

app = App(
    name="snugly",
    help="Large language models that fit and run well on the machine you already own.",
    version=f"snugly {__version__}",
    version_flags=["--version", "-V"],
    suppress_keyboard_interrupt=False,  # `run` below says it, with the exit code
    help_format="plaintext",  # rich's Markdown takes a third of `snugly --help` to load
)

# name -> (module:function, its description). The description is repeated here because
# reading it from the function would import the module, and `snugly --help` must stay
# quick; a test holds the two together. The first sentence is plain text, the rest Markdown.
VERBS = {
    "run": (
        "snugly.cli.run:run",
        "Answer one prompt, then leave.\n\n"
        "The prompt is the words, then the files, then what is piped in:\n"
        '`cat notes.txt | snugly run "summarise"`.',
    ),
    "chat": (
        "snugly.cli.chat:chat",
        "Talk to a model; conversations are kept on this machine.\n\n"
        "On a terminal Enter sends, Alt-Enter adds a line, Ctrl-C stops an answer and /help\n"
        "lists the commands. From a pipe each line is one question or command.",
    ),
    "machine": (
        "snugly.cli.machine:machine",
        "Show what this machine has, and how we know.\n\n"
        "Each fact carries where it came from: probed, measured, assumed, or unknown with the\n"
        "reason. `docs/machine.md` documents every key of the JSON.",
    ),
    "plan": (
        "snugly.cli.plan:plan",
        "Show what fits, how fast it will be, and what to choose, before anything is downloaded.",
    ),
    "footprint": (
        "snugly.cli.footprint:footprint",
        "Show what a transformers model takes in each dtype: what it prints, and the truth.\n\n"
        "From its config.json alone. PRINTED is what `model.get_memory_footprint()` says;\n"
        "TRUE adds the scales of quantized weights, which it leaves out.",
    ),
    "explain": (
        "snugly.cli.explain:explain",
        "Explain a word: 7B, Q4_K_M, kv-cache, ..., on this machine's numbers.\n\n"
        "Alone it lists the words it knows.",
    ),
    "quantize": (
        "snugly.cli.quantize:quantize",
        "Make a smaller file of a model: any of llama.cpp's quantizations.\n\n"
        "The original is only read. Best from F32, F16, BF16 or Q8_0; a split model is given by\n"
        "any of its files. With a type of transformers (nf4, int8, ...) a checkpoint is made.",
    ),
    "inspect": (
        "snugly.cli.inspect:inspect",
        "Show every tensor of a model: its type, its bytes and bits per weight.\n\n"
        "For GGUF files and for checkpoints of transformers, of which it also says what\n"
        "`model.get_memory_footprint()` prints, and the truth.",
    ),
    "compare": (
        "snugly.cli.compare:compare",
        "Measure what a model loses against another: quantizations or fine-tunes of one model.\n\n"
        "Both read the same text side by side. Shown are the Kullback-Leibler divergence of their\n"
        "predictions (KLD, in nats per token), how often they agree, and the perplexities, each\n"
        "with its standard error.",
    ),
    "pull": ("snugly.cli.pull:pull", "Fetch a model: verified, resumable."),
    "models": (
        "snugly.cli.models:models",
        "List the models that can be run now, and checkpoints fetched for quantizing.",
    ),
    "show": (
        "snugly.cli.show:show",
        "Show what is inside a model file.\n\n"
        "Only the header is read, so a file of any size is shown at once.",
    ),
    "serve": (
        "snugly.cli.serve:serve",
        "Serve models to every client, on one port.\n\n"
        "OpenAI, Anthropic, Ollama, LM Studio and llama.cpp are spoken. Models are loaded when\n"
        "asked for, and unloaded when nobody uses them or another one needs the memory.",
    ),
    "ps": ("snugly.cli.ps:ps", "Show what the server holds in memory."),
    "load": ("snugly.cli.ps:load", "Load a model into the server now."),
    "stop": (
        "snugly.cli.ps:stop",
        "Unload a model from the server once its answers are done; without a name, all.",
    ),
    "status": (
        "snugly.cli.status:status",
        "Show whether the server runs, since when, its models, memory and queue.\n\n"
        "The exit code is 2 when it does not run or does not answer.",
    ),
    "logs": (
        "snugly.cli.logs:logs",
        "Show the server's log: requests, loads, faults; never anybody's words.",
    ),
    "usage": (
        "snugly.cli.usage:usage",
        "Show what the server's models were used for: requests, tokens, times, memory.",
    ),
    "doctor": (
        "snugly.cli.doctor:doctor",
        "Find what is wrong here, why, and what to do.\n\n"
        "Nothing is changed and nobody is contacted. The exit code is 2 when something is bad.",
    ),
    "engine": (
        "snugly.cli.engine:engine",
        "Show the engines, build a faster one for this machine, or choose one.\n\n"
        "`list` shows what there is, `build` compiles llama.cpp for this very processor (about\n"
        "six minutes on two cores), `use NAME` chooses one, `info NAME` shows what is known of it.",
    ),
    "tune-machine": (
        "snugly.cli.tune_machine:tune_machine",
        "Measure which engine and which settings are fastest on this machine.\n\n"
        "A minute at the most; what is interrupted goes on from there the next time. What is\n"
        "found is used for models of the same type and size; the engine's own settings are always\n"
        "among what is measured, and stay where nothing is clearly faster.",
    ),
    "bench": (
        "snugly.cli.bench:bench",
        "Measure how fast a model is here: prompts, answers, long contexts, several at once.\n\n"
        "Energy is told where the machine counts it. Beside another program both are asked.",
    ),
    "cache": (
        "snugly.cli.cache:cache",
        "Show what models have read and need not read again, or forget it.\n\n"
        "`purge` forgets everything, `purge MODEL` what one model has read. Words are never shown.",
    ),
    "rm": (
        "snugly.cli.models:rm",
        "Remove a model or a fetched checkpoint. Of an adopted model only the entry goes.",
    ),
    "adopt": (
        "snugly.cli.adopt:adopt",
        "Use files that other programs already downloaded, without copying them.",
    ),
}

for _name, (_target, _help) in VERBS.items():
    app.command(_target, name=_name, help=_help, help_format="markdown")


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code (see `snugly.errors`)."""
    try:
        app(argv, exit_on_error=False, print_error=True, result_action="return_value")
        sys.stdout.flush()  # here, where a full disk can still be said
    except CycloptsError:
        return 2  # cyclopts has printed what is wrong
    except SnuglyError as error:
        render_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `snugly models | head`: the reader has what it wanted
        _drop_output()
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        render_error(UserError("The output could not be written.", "The disk is full."))
        return UserError.exit_code
    return 0


def _drop_output() -> None:
    """What is still buffered goes nowhere, or Python complains at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
