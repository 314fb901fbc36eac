"""The mapping from an adapter's layer names to those in the pretrained model's files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from structmat._util.text_table import listed
from structmat.convert.tensor_files import Weights
from structmat.convert.unet_names import other_names
from structmat.errors import FileError

# Prefixes of the U-Net's layers in files that contain more than the U-Net.
UNET_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "unet.")
_MODULES = 4  # the most modules of the model's files that an adapter's names may omit
_SHOWN = 4


class Names:
    """The mapping from an adapter's layer names to a model's, by a common change of prefix.

    The same layer is called `layer.0` in a base model and `bert.layer.0` in a model with a head. If
    a model class later renamed its layers, as vision–language models did, older adapters use the
    names in the model's files. Layers of Stable Diffusion's U-Nets have two names each.

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
        If no change of prefix matches all layers, a match is ambiguous, the adapter belongs to a
        single layer, or the model has no layers with weights.
    """

    def __init__(self, weights: Weights, layers: Iterable[str], *, is_flat: bool = False) -> None:
        layers = list(layers)
        if "" in layers:
            raise FileError(
                "the adapter belongs to a single layer; only whole models are supported"
            )
        self._weights = weights
        self._other: Mapping[str, str] = {}
        self.is_renamed = False
        known = [key.removesuffix(".weight") for key in weights.keys if key.endswith(".weight")]
        if not known and "weight" not in weights.keys:  # a single layer has this one
            raise FileError(
                "the tensors of the model are not the weights of layers, but"
                f" {listed(sorted(weights.keys), _SHOWN)}; give the pretrained model, not an"
                " adapter"
            )
        if is_flat:
            self._flat(known, layers)
            return
        try:
            self.of = self._by_prefix(known, layers)
        except FileError:
            newer = {name: self._newer(name) for name in layers}
            self._other = unet_names(known)
            if self._other:
                known += self._other
            elif all(name == new for name, new in newer.items()):
                raise
            found = self._by_prefix(known, list(newer.values()))
            self.is_renamed = True
            self.of = {name: self._own(found[new]) for name, new in newer.items()}

    def _newer(self, module: str) -> str:
        return self._weights.renamed(f"{module}.weight").removesuffix(".weight")

    def _own(self, name: str) -> str:
        """Return the model's name for a layer that may have the U-Net's other name."""
        return self._other.get(name, name)

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
                f"{lost} has no weight in this model, which has {listed(sorted(known), _SHOWN)}:"
                " does the adapter belong to another model?"
            )
        if len(fits) > 1 and fits[0] != ("", ""):
            raise FileError(
                f"{first} is ambiguous: it matches {_moved(first, fits[0])} and"
                f" {_moved(first, fits[1])} of this model"
            )
        self.rule = fits[0]
        return {name: _moved(name, self.rule) for name in layers}

    def _flat(self, known: list[str], layers: list[str]) -> None:
        """Match names without dots: one prefix is dropped from them, one from the model's names.

        The shortest prefix of the adapter's names for which all layers match is the right one: a
        longer one would disregard more of the names.
        """
        self.rule = ("", "")
        other = unet_names(known)
        first = layers[0]
        matches: dict[str, set[str]] = {}  # the dropped prefix → the prefixes of the model's names
        for name in [*known, *other]:
            for add in _prefixes(name):
                rest = _flattened(name[len(add) :])
                drop = first[: len(first) - len(rest)]
                inside = any(part.isdecimal() for part in drop.split("_"))  # drops a block's number
                if drop + rest == first and drop[-1:] in ("", "_") and not (add and inside):
                    matches.setdefault(drop, set()).add(add)
        for drop in sorted(matches, key=len):
            found: list[dict[str, str]] = []
            for add in sorted(matches[drop]):
                flat: dict[str, set[str]] = {}
                for name in [*known, *other]:
                    if name.startswith(add):
                        own = other.get(name, name)
                        flat.setdefault(drop + _flattened(name[len(add) :]), set()).add(own)
                if all(len(flat.get(name, ())) == 1 for name in layers):
                    of = {name: next(iter(flat[name])) for name in layers}
                    found += [of] if of not in found else []
            if len(found) > 1:
                raise FileError(
                    f"{first} is ambiguous: it matches {found[0][first]} and {found[1][first]} of"
                    " this model"
                )
            if found:
                self.of = found[0]
                return
        others = f" and {len(layers) - 1} others do" if len(layers) > 1 else " does"
        raise FileError(
            f"{first}{others} not match layers of this model with a common prefix; it has"
            f" {listed(sorted(known), _SHOWN)}"
        )

    def key(self, name: str) -> str:
        """Return the name that any other tensor of the adapter's model has in the weights."""
        moved = _moved(self._weights.renamed(name) if self.is_renamed else name, self.rule)
        layer, dot, part = moved.rpartition(".")
        return self._own(layer) + dot + part

    def module(self, name: str) -> str:
        """Return the name that any module of the adapter's model has in the weights."""
        return self._own(_moved(self._newer(name) if self.is_renamed else name, self.rule))


def unet_names(known: Iterable[str]) -> dict[str, str]:
    """Return the other names of a U-Net's layers, with their names in the model's files."""
    known = list(known)
    for prefix in UNET_PREFIXES:
        own = [name[len(prefix) :] for name in known if name.startswith(prefix)]
        if found := other_names(own):
            return {prefix + other: prefix + name for name, other in found.items()}
    return {}


def _prefixes(name: str) -> list[str]:
    """Return "" and the prefixes of a name after which at least two modules remain."""
    parts = name.split(".")
    return ["", *(".".join(parts[:k]) + "." for k in range(1, min(len(parts) - 2, _MODULES) + 1))]


def _flattened(name: str) -> str:
    return name.replace(".", "_")


def _moved(name: str, rule: tuple[str, str]) -> str:
    add, drop = rule
    return add + name.removeprefix(drop)
