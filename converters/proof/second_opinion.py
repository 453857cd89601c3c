"""A second opinion on an original: what its user gets from it, beside what the converter's adapter gets.

An adapter asks an original in a form of its own: a numpy matrix in place of a data frame, kernels that have an ONNX
form in place of faster ones. Where that form errs, the graph errs with it, and no comparison of the two can tell. An
adapter that can also ask in the user's own way is an ``OwnWay``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from converters.error_text import first_line
from converters.package.manifest import ATOL, RTOL
from edgepack.errors import ConversionError


@runtime_checkable
class OwnWay(Protocol):
    """An original that can be asked as its user asks it."""

    def own(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name. Raises ``ConversionError`` when the original refuses these inputs."""
        ...


def ask(reference: Any, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the user gets by output name; empty where the adapter has no other way, or the original refuses."""
    if not isinstance(reference, OwnWay):
        return {}
    try:
        return reference.own(feeds)
    except ConversionError:
        return {}


REPEATABLE_HINT = (
    "export it in the mode of prediction (PyTorch: model.eval(), Keras: training=False, stateful=False), draw no "
    "random numbers in it, and keep nothing in it from one call to the next"
)


def require_repeatable(reference: Any, feeds: Any) -> None:
    """Raise ``ConversionError`` where the original answers the same inputs otherwise the second time.

    No accepted difference makes up for that: there is no one answer that the ONNX model could have.
    """
    first, second = reference.answer(feeds), reference.answer(feeds)
    for name in first:
        if first[name].shape != second[name].shape or _unequal(first[name], second[name]):
            raise ConversionError(
                f'the original answers the same inputs otherwise each time (output "{name}"): it is random, keeps '
                "something from call to call, or is in train mode",
                hint=REPEATABLE_HINT,
            )


def first_not_row_wise(reference: Any, feeds: Mapping[str, Any], batched: Mapping[str, bool]) -> str | None:
    """The first output whose answer to the first row is another one alone than among the others; None where none is.

    ``batched`` says of each input whether its first axis is the rows'.
    """
    alone = {name: array[:1] if batched[name] else array for name, array in feeds.items()}
    try:
        together, single = reference.answer(feeds), reference.answer(alone)
    except ConversionError:
        return None
    for name, found in together.items():
        one = single[name]
        rows = found.ndim and one.ndim and len(one) == 1 and len(found) > 1 and found.shape[1:] == one.shape[1:]
        if rows and _unequal(found[:1], one):
            return str(name)
    return None


def require_row_wise(reference: Any, feeds: Mapping[str, Any], batched: Mapping[str, bool]) -> None:
    """Raise ``ConversionError`` where the original answers the first row otherwise alone than among the others.

    To be asked where the ONNX model has been found to differ: normalization in train mode is the usual reason.
    """
    name = first_not_row_wise(reference, feeds, batched)
    if name is not None:
        raise ConversionError(
            f'the original answers a row otherwise among other rows than alone (output "{name}"): it is in train '
            "mode, or counts over the batch",
            hint=REPEATABLE_HINT,
        )


def _unequal(left: Any, right: Any) -> bool:
    import numpy as np

    return differing(np.atleast_1d(left), np.atleast_1d(right)) > 0


def undefined(found: Any, *originals: Any) -> bool:
    """Whether ``found`` is NaN somewhere that one of the originals' answers, of which some may be None, is not."""
    import numpy as np

    if found.dtype.kind != "f":
        return False
    nan = np.isnan(found)
    known = [np.asarray(original) for original in originals if original is not None]
    return any(
        bool((nan & ~np.isnan(each)).any()) for each in known if each.dtype.kind == "f" and each.shape == nan.shape
    )


def require_same(what: str, adapter: Callable[[], Any], user: Callable[[], Any], hint: str) -> None:
    """Raise ``ConversionError`` where the original, asked as its user asks it, answers otherwise than the adapter.

    ``what`` names the method; both give arrays of equal meaning. An answer that the user's own way refuses and the
    adapter's gives is a difference too. What the adapter refuses is told by the comparison itself.
    """
    import numpy as np

    try:
        mine = np.asarray(adapter())
    except ConversionError:
        return
    try:
        theirs = np.asarray(user())
    except Exception as error:  # an estimator may raise anything
        raise ConversionError(
            f"the original refuses rows in the form in which it was trained ({first_line(error)}), and {what} answers "
            "them in the converter's",
            hint=hint,
        ) from error
    if mine.size != theirs.size:
        raise ConversionError(f"{what} has shape {theirs.shape} as users ask it, {mine.shape} as converted", hint=hint)
    off = differing(mine.reshape(theirs.shape), theirs)
    if off and differing(np.asarray(user()), theirs):
        raise ConversionError(
            f"{what} answers the same rows otherwise each time: it is random, or keeps something from call to call",
            hint=REPEATABLE_HINT,
        )
    if off:
        raise ConversionError(
            f"{what} answers {off} of {len(theirs)} rows otherwise in the form in which it was trained than in the "
            "converter's",
            hint=hint,
        )


def differing(left: Any, right: Any) -> int:
    """How many rows differ: numbers by more than parity allows, others at all."""
    import numpy as np

    if left.dtype.kind in "fiub" and right.dtype.kind in "fiub":
        off = ~np.isclose(left.astype(float), right.astype(float), rtol=RTOL, atol=ATOL, equal_nan=True)
    else:
        off = left.astype(str) != right.astype(str)
    return int(off.reshape(len(off), -1).any(axis=1).sum()) if off.size else 0
