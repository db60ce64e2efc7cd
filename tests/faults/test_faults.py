"""Every row of the fault table with small counts; `--soak` has the full ones."""

import pytest

from tests.faults import clients, engines, strangers, transfers, weights, whole
from tests.faults.figure import Row

ROWS: tuple[Row, ...] = (
    *engines.ROWS, *clients.ROWS, *transfers.ROWS, *strangers.ROWS, *weights.ROWS, *whole.ROWS,
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
async def test_a_row(row: Row, soak: bool) -> None:
    figure = await row(soak)
    print(f"row {figure.row}: {figure.fault}: {figure.figure}")
    assert figure.ok, figure.figure
