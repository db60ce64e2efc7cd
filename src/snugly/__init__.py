"""Snugly: large language models that fit and run well on the machine you already own.

In Python and in notebooks: `snugly.machine()`, `snugly.plan(...)`, `snugly.footprint(...)`,
`snugly.quantize(...)`, `snugly.compare(...)`; see `snugly.face`.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from snugly.face import compare as compare
    from snugly.face import footprint as footprint
    from snugly.face import machine as machine
    from snugly.face import plan as plan
    from snugly.face import quantize as quantize

_FACE = ("compare", "footprint", "machine", "plan", "quantize")


class _Callable(ModuleType):
    """A package that can be called like the function of its name in `snugly.face`."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the function."""
        from snugly import face

        return getattr(face, self.__name__.rpartition(".")[2])(*args, **named)


class _Snugly(ModuleType):
    """`snugly.machine` is both the floor and the function: the import system sets the first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FACE and type(value) is ModuleType:
            value.__class__ = _Callable
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _FACE:
            from snugly import face

            return getattr(face, name)
        raise AttributeError(f"module 'snugly' has no attribute {name!r}")


sys.modules[__name__].__class__ = _Snugly
