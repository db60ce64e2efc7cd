"""What a layer takes on the GPU that computes it, and gives back, in order.

Read off ggml's allocator, made to tell each step, for a few plain architectures; the order is
that of src/models/*.cpp, what a split copies in that of ggml/src/ggml-backend.cpp. Steps: + takes,
- gives back, ! takes once and keeps; y>x: y is from then on called x. Words in braces stand for
what depends on where a layer lies (plan/replay.py).
"""

from dataclasses import dataclass

_WORDS = "+mixed +looked +slots +x +kept -mixed -looked -slots"
_SCALED = "+mixed +looked +slots +x +scale +kept -mixed -looked -slots -scale"
_PLACED = "+x +place -place"  # the place of a token is a row of its own
_IN = " {mask} +attended"
_FORWARD = "+n +wg +g -wg +wu +u -wu -n +s -g -u +wd {handed} +y -wd -s"
_GATED = _FORWARD + " -o y>x"
_NORMED = "+n +wg +g -wg +wu +u -wu -n +s -g -u +wd +y -wd -s +norm {handed} -norm -o y>x"
_PLAIN = "+n +wu +u -wu -n +wd {handed} +y -wd -u"


@dataclass(frozen=True, slots=True)
class Listed:
    """One architecture. `turned`: where keys and values are turned before they are kept."""

    start: str  # before the first layer
    attends: str
    turned: str
    forward: str = ""  # left out in the last layer, which is done for what is asked for alone
    state: str = ""  # a layer with a state


# Queries, keys and values by matrices of their own.
_OUT = " +wo +o -wo -attended -x"
_TURNED_OUT = " +ho {last_v} -attended +wo +o -wo -ho -x"
_APART = (
    "+n +wq {early} +q -wq {late} {ahead} +rq -q +wv +v -wv +wk +k -wk -n +rk -k -rk -v +ck +cv"
    + _IN + " -rq -ck -cv {over}" + _OUT,
    "+n +wq {early} {turn} +q -wq {late} {ahead} +rq -q +hq -rq +wv {vturn} +v -wv {vlate} +hv -v"
    " +wk +k -wk -n +rk -k +hk -rk -hk -hv +ck +cv" + _IN + " -hq -ck -cv {over}" + _TURNED_OUT,
    _GATED,
)  # fmt: skip
# The same, with norms of queries and keys.
_APART_NORMED = (
    "+n +wq +q -wq +nq -q +qn !pos -qn +wv +v -wv +wk +k -wk -n +nk -k -nk -v +ck +cv"
    + _IN + " -nq -ck -cv {over}" + _OUT,
    "+n +wq +q -wq +nq -q +qn !pos {turn} -qn +hq -nq +wv {vturn} +v -wv +hv -v +wk +k -wk -n +nk"
    " -k +hk -nk -hk -hv +ck +cv" + _IN + " -hq -ck -cv {over}" + _TURNED_OUT,
    _GATED,
)  # fmt: skip
# Gemma: keys are turned to their places before values are made.
_GEMMA = (
    "+n +wq !pos +q -wq +rq -q +wk +k -wk +rk -k +wv +v -wv -n -rk -v +ck +cv"
    + _IN + " -rq -ck -cv {over}" + _OUT,
    "+n +wq !pos {turn} +q -wq +rq -q +hq -rq +wk +k -wk +rk -k +hk {last_k} -rk +wv {vturn} +v"
    " -wv -n +hv -v -hk -hv +ck +cv" + _IN + " -hq -ck -cv {over}" + _TURNED_OUT,
    _NORMED,
)  # fmt: skip
_GEMMA_NORMED = (
    "+n +wq +q -wq +nq -q +qn !pos -qn +wk +k -wk +nk -k +wv +v -wv -n -nk -v +ck +cv"
    + _IN + " -nq -ck -cv {over}" + _OUT,
    "+n +wq +q -wq +nq -q +qn !pos {turn} -qn +hq -nq +wk +k -wk +nk -k +hk {last_k} -nk +wv"
    " {vturn} +v -wv -n +hv -v -hk -hv +ck +cv" + _IN + " -hq -ck -cv {over}" + _TURNED_OUT,
    _NORMED,
)  # fmt: skip
# OLMo 2 norms what comes out, not what goes in.
_NORMED_OUT = (
    "+wq +x +q -wq +bias !pos -bias +rq -q +wv +v -wv +wk +k -wk +rk -k -rk -v +ck +cv"
    + _IN + " -rq -ck -cv {over}" + _OUT,
    "+wq +x +q -wq +bias !pos {turn} -bias +rq -q +hq -rq +wv {vturn} +v -wv +hv -v +wk +k -wk +rk"
    " -k +hk {last_k} -rk -hk -hv +ck +cv" + _IN + " -hq -ck -cv {over}" + _TURNED_OUT,
    "+wg +g -wg +wu +u -wu +s -g -u +wd +y -wd -s +norm {handed} -norm -o y>x",
)  # fmt: skip
_FUSED = (
    "+n +wqkv +qkv -wqkv -n +ck +cv" + _IN + " -qkv -ck -cv {over}" + _OUT,
    "+n +wqkv +qkv -wqkv -n +qbias {turn} {vturn} -qbias +q +hq -q +v +hv -v +k -qkv +hk"
    " -k -hk -hv +ck +cv" + _IN + " -hq -ck -cv {over}" + _TURNED_OUT,
    _PLAIN + " -o y>x",
)  # fmt: skip
# Phi 3: what widens and its gate are one matrix, and it adds to what attention gave.
_FUSED_GATED = (
    "+n +wqkv +qkv -wqkv -n !pos !freqs +rq +rk -rk -qkv +ck +cv" + _IN + " -rq -ck -cv {over}"
    + _OUT,
    "+n +wqkv +qkv -wqkv -n !pos !freqs {turn} {vturn} +rq +hq -rq +v +hv -v +rk -qkv +hk -rk -hk"
    " -hv +ck +cv" + _IN + " -hq -ck -cv {over}" + _TURNED_OUT,
    "+n +wu +u -wu -n +s -u +wd {handed} +y -wd -s -y o>x",
)  # fmt: skip
_BESIDE = (  # attention and feed-forward side by side
    "+n +wqkv +qkv -wqkv -n +qbias !pos -qbias +rq +rk -rk -qkv +ck +cv" + _IN + " -rq -ck -cv"
    " {over} " + _PLAIN + " -x +wo +o -wo -attended -o y>x",
    "+n +wqkv +qkv -wqkv -n +qbias !pos {turn} {vturn} -qbias +rq +hq -rq +v +hv -v +rk -qkv +hk"
    " -rk -hk -hv +ck +cv" + _IN + " -hq -ck -cv {over} " + _PLAIN
    + " -x +ho -attended +wo +o -wo -ho -o y>x",
)  # fmt: skip
_BESIDE_APART = (  # the same, with matrices of their own
    "+n +wq {early} +q -wq {late} +rq -q +wv +v -wv +wk +k -wk +rk -k -rk -v +ck +cv" + _IN
    + " -rq -ck -cv {over} +wo +o -wo -attended " + _PLAIN + " -y -x o>x",
    "+n +wq {early} {turn} +q -wq {late} +rq -q +hq -rq +wv {vturn} +v -wv {vlate} +hv -v +wk +k"
    " -wk +rk -k +hk -rk -hk -hv +ck +cv" + _IN
    + " -hq -ck -cv {over} +ho -attended +wo +o -wo -ho " + _PLAIN + " -y -x o>x",
)  # fmt: skip
# LFM2 adds to the row that came in, in its place. Its state is copied in, or looked up while the
# layer before is computed, where both lie on the GPU; the end of its row goes to RAM.
_SHORT = (
    "+n +wq +q -wq +nq -q +qn !pos -qn +wv +v -wv +wk +k -wk -n +nk -k {placed} -nk -v {cache} -nq"
    " -ck -cv {over} {next} +wo {back} +y -wo -attended -back -y",
    "+n +wq +q -wq +nq -q +qn !pos {turn} -qn +hq -nq +wv {vturn} +v -wv +hv -v +wk +k -wk -n +nk"
    " -k +hk {placed} -nk -hk -hv {cache} -hq -ck -cv {over} {next} {back} +ho -attended -back +wo"
    " +y -wo -ho -y",
    _FORWARD + " -y next>st",
    "+n +win +st +bcx -win -n +bx +cc -st -bx {next} +wc +co -cc -wc -bcx +wout +y -wout -co -y",
)
LISTED = {
    "llama": Listed(_WORDS, *_APART), "qwen2": Listed(_WORDS, *_APART),
    "smollm3": Listed(_WORDS, *_APART), "mistral3": Listed(_WORDS, *_APART),
    "granite": Listed(_WORDS, *_APART),
    "starcoder2": Listed(_WORDS, *_APART[:2], _PLAIN + " -o y>x"),
    "ernie4_5": Listed(_WORDS, *_APART), "seed_oss": Listed(_WORDS, *_APART),
    "qwen3": Listed(_WORDS, *_APART_NORMED), "gemma2": Listed(_WORDS, *_GEMMA),
    "gemma3": Listed(_SCALED, *_GEMMA_NORMED), "lfm2": Listed("+x", *_SHORT),
    "olmo2": Listed("+mixed +looked +slots +kept -mixed -looked -slots", *_NORMED_OUT),
    "gpt2": Listed(_PLACED, *_FUSED), "starcoder": Listed(_PLACED, *_FUSED),
    "phi3": Listed(_WORDS, *_FUSED_GATED),
    "gptneox": Listed(_WORDS, *_BESIDE), "phi2": Listed(_WORDS, *_BESIDE_APART),
}  # fmt: skip
# Each fourth layer does without positions (src/models/smollm3.cpp, n_no_rope_layer_step).
NO_PLACE = {"smollm3": 4}
# What comes in once comes with the first split that needs it: with the matrix of queries, with
# their bias, or with the frequencies of Llama 3.1 and later, which have a split of their own
# (and the matrix of values, from the second layer on, comes with it).
AS_IS = {
    "early": "!pos",
    "turn": "!kturn",
    "vturn": "!vturn",
    "late": "",
    "vlate": "",
    "ahead": "",
}
BIASED = dict.fromkeys(AS_IS, "") | {
    "late": "+bias !pos !kturn -bias", "vlate": "+vbias !vturn -vbias",
}  # fmt: skip
TUNED = AS_IS | {"early": "", "turn": "", "late": "!pos !freqs !kturn"}
WITH_BIAS = frozenset({"qwen2", "seed_oss", "phi2", "starcoder2"})
MATRICES = {
    "ffn_down": "wd", "attn_v": "wv", "attn_qkv": "wqkv", "attn_k": "wk", "attn_q": "wq",
    "attn_output": "wo", "ffn_gate": "wg", "ffn_up": "wu", "shortconv.in_proj": "win",
    "shortconv.out_proj": "wout",
}  # fmt: skip
