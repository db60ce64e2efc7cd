"""`snugly footprint`: what a transformers model takes in each dtype."""

from typing import Annotated

from cyclopts import Parameter

from snugly.cli.render import console, note, print_json, visible
from snugly.model.config_source import config_of
from snugly.model.footprint import Footprint, possible
from snugly.model.footprint import footprint as footprint_in
from snugly.model.module_tree import ModuleTree, tree_of_config
from snugly.settings import settings
from snugly.units import format_bytes, format_count


def footprint(
    model: str,
    /,
    *,
    dtype: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show what a transformers model takes in each dtype: what it prints, and the truth.

    From its config.json alone. PRINTED is what `model.get_memory_footprint()` says;
    TRUE adds the scales of quantized weights, which it leaves out.

    Parameters
    ----------
    model
        A repository of the Hugging Face hub, a short name, a config.json or its folder.
    dtype
        Only this one, and which modules keep which type in it: float32, float16, bfloat16,
        int8, nf4, nf4-dq (double quantization), fp4, fp4-dq or fp8. May be given again.
    as_json
        Print everything as JSON.
    """
    sourced = config_of(model, settings())
    tree = tree_of_config(sourced.config, sourced.name)
    found = tuple(footprint_in(tree, name.lower()) for name in dtype or possible(tree))
    remarks = (*sourced.remarks, *tree.remarks)
    if as_json:
        print_json({"name": sourced.name, "class": tree.class_name,
                    "parameters": tree.n_parameters, "tied_embeddings": tree.tied,
                    "footprints": found, "remarks": remarks})  # fmt: skip
    else:
        _print(sourced.name, tree, found, with_groups=bool(dtype))
    for remark in remarks:
        note(remark)


def _print(name: str, tree: ModuleTree, found: tuple[Footprint, ...], *, with_groups: bool) -> None:
    out = console()
    out.print(
        f"{visible(name)}: {tree.class_name}, {format_count(tree.n_parameters)} parameters"
        f" ({tree.n_parameters:,})" + (", embeddings tied" if tree.tied else ""),
        style="bold",
        markup=False,
    )
    _print_sizes(found)
    for item in found if with_groups else ():
        out.print()
        _print_groups(item)


def _print_sizes(found: tuple[Footprint, ...]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("DTYPE", no_wrap=True)
    for title in ("PRINTED", "TRUE", ""):
        table.add_column(title, justify="right", no_wrap=True)
    for item in found:
        table.add_row(
            item.dtype,
            f"{item.printed_bytes / 1e9:.4f} GB",
            f"{item.true_bytes / 1e9:.4f} GB",
            format_bytes(item.true_bytes),
        )
    console().print(table)


def _print_groups(item: Footprint) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(item.dtype)
    for title, side in (("KEPT AS", "left"), ("PARAMETERS", "right"), ("PRINTED", "right"),
                        ("SCALES", "right")):  # fmt: skip
        table.add_column(title, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("MODULES", overflow="fold")
    for group in item.groups:
        table.add_row(
            f"{group.part}: {group.kind}",
            group.dtype,
            format_count(group.parameters),
            format_bytes(group.printed_bytes),
            format_bytes(group.scale_bytes) if group.scale_bytes else "",
            group.modules,
        )
    console().print(table)
