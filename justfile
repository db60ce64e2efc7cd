# The same steps as CI. `pip install -e ".[dev]"` brings `just` and all it calls.

# Everything that CI checks, less the soak.
check: lint test

# Format, lint, types, floors.
lint:
    .ci/check

test:
    python -m pytest

# The full fault counts of the issues (minutes).
soak:
    python -m pytest --soak

fix:
    ruff check --fix src tests bench
    ruff format src tests bench
