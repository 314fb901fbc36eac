"""The mapping from an adapter's layer names to those in the pretrained model's files."""

from __future__ import annotations

from collections.abc import Iterable

from structmat.convert.tensor_files import Weights
from structmat.errors import FileError


class Names:
    """The mapping from an adapter's layer names to a model's, by a common change of prefix.

    The same layer is called `layer.0` in a base model and `bert.layer.0` in a model with a head. If
    a model class later renamed its layers, as vision–language models did, older adapters use the
    names in the model's files.

    Parameters
    ----------
    weights : Weights
    layers : iterable of layer names
    is_flat : bool
        Whether layer names have underscores instead of dots, after an arbitrary prefix.

    Attributes
    ----------
    of : dict of layer name → its name in the weights
    is_renamed : bool
        Whether names differ in more than a prefix.

    Raises
    ------
    FileError
        If no change of prefix matches all layers, a match is ambiguous, or the adapter belongs to a
        single layer.
    """

    def __init__(self, weights: Weights, layers: Iterable[str], *, is_flat: bool = False) -> None:
        layers = list(layers)
        if "" in layers:
            raise FileError(
                "the adapter belongs to a single layer; only whole models are supported"
            )
        self._weights = weights
        self.is_renamed = False
        known = [key.removesuffix(".weight") for key in weights.keys if key.endswith(".weight")]
        if is_flat:
            self._flat(known, layers)
            return
        try:
            self.of = self._by_prefix(known, layers)
        except FileError:
            newer = {name: self._newer(name) for name in layers}
            if all(name == new for name, new in newer.items()):
                raise
            found = self._by_prefix(known, list(newer.values()))
            self.is_renamed = True
            self.of = {name: found[new] for name, new in newer.items()}

    def _newer(self, module: str) -> str:
        return self._weights.renamed(f"{module}.weight").removesuffix(".weight")

    def _by_prefix(self, known: list[str], layers: list[str]) -> dict[str, str]:
        first = layers[0]
        rules = {("", "")}
        rules |= {(k.removesuffix(first), "") for k in known if k.endswith(f".{first}")}
        rules |= {("", first.removesuffix(k)) for k in known if first.endswith(f".{k}")}
        have = set(known)
        fits = [rule for rule in sorted(rules) if all(_moved(n, rule) in have for n in layers)]
        if not fits:
            lost = next((n for n in layers if n not in have), first)
            raise FileError(
                f"{lost} has no weight in this model, which has"
                f" {', '.join(sorted(known)[:4])}, …: does the adapter belong to another model?"
            )
        if len(fits) > 1 and fits[0] != ("", ""):
            raise FileError(
                f"{first} is ambiguous: it matches {_moved(first, fits[0])} and"
                f" {_moved(first, fits[1])} of this model"
            )
        self.rule = fits[0]
        return {name: _moved(name, self.rule) for name in layers}

    def _flat(self, known: list[str], layers: list[str]) -> None:
        self.rule = ("", "")
        flat: dict[str, list[str]] = {}
        for name in known:
            flat.setdefault(name.replace(".", "_"), []).append(name)
        heads = {layers[0][: len(layers[0]) - len(f)] for f in flat if layers[0].endswith(f"_{f}")}
        fits = [
            head
            for head in sorted(heads, key=len)
            if all(n.startswith(head) and len(flat.get(n[len(head) :], ())) == 1 for n in layers)
        ]
        if not fits:
            raise FileError(
                f"{layers[0]} and {len(layers) - 1} others do not match layers of this model with a"
                " common prefix; split a file for several models first"
            )
        self.of = {name: flat[name[len(fits[0]) :]][0] for name in layers}

    def key(self, name: str) -> str:
        """Return the name that any other tensor of the adapter's model has in the weights."""
        return _moved(self._weights.renamed(name) if self.is_renamed else name, self.rule)

    def module(self, name: str) -> str:
        """Return the name that any module of the adapter's model has in the weights."""
        return _moved(self._newer(name) if self.is_renamed else name, self.rule)


def _moved(name: str, rule: tuple[str, str]) -> str:
    add, drop = rule
    return add + name.removeprefix(drop)
