"""What `snugly bench --share` writes may be published."""

import json
from dataclasses import replace

from tests.making import plan, spec

from snugly.cli.bench import document
from snugly.engine.bench import Figure
from snugly.engine.launch import Prepared, Sampling
from snugly.model.types import Installed, Provenance


def test_neither_a_servers_address_nor_a_files_name_is_told() -> None:
    model = spec(path="/home/alice/secret.gguf", name="secret.gguf")
    installed = Installed("secret", model.path, (), Provenance("local", "", "", "", 0, ""), False)
    ready = Prepared(installed, model, plan(), Sampling(), "secret")
    figure = Figure("decode", 0, (10.0,))
    figures = {"snugly": (figure,), "http://alice:pw@box.internal:8080": (figure,)}
    found = {"engine": "xllamacpp", "figures": figures, "joules_per_token": None}
    told = document(ready, found)
    assert not any(word in json.dumps(told) for word in ("alice", "pw", "box.internal", "secret"))
    assert [one["who"] for one in told["figures"]] == ["snugly", "another server"]
    assert told["model"]["name"] == "llama"
    named = document(replace(ready, spec=replace(model, name="Llama 3.1 8B")), found)
    assert named["model"]["name"] == "Llama 3.1 8B"
