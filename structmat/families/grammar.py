"""The grammar of specs: families with options, and their composition, parsed without evaluation.

A spec is one of

    NAME                        a family or an alias
    NAME(OPTION=VALUE, …)       with options; every family takes reverse, repeat and mirror
    SPEC @ SPEC                 a product: the right one acts first, as for matrices
    SPEC * TIMES                a repetition; also SPEC ** TIMES
    reverse(SPEC)               the stages in reverse order, the network of Rᵀ
    mirror(SPEC)                SPEC followed by its reverse, with a common middle stage
    SPEC[:STAGES]               the leading stages
    (SPEC)

with Python's precedence: [:k] binds most tightly, then **, then * and @ from left to right.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from operator import getitem, matmul, methodcaller, mul
from typing import Any, NoReturn

from structmat.errors import SpecError, StructmatError, abbreviated, plain
from structmat.families.composition import Rule
from structmat.families.registry import canonical, entry
from structmat.families.spec import checked_family

_LONGEST = 2**16  # characters; Python's parser uses some hundred bytes per character
_DEEPEST = 100  # maximum number of nested operations that are parsed
_FORM = 'a spec looks like "butterfly(block=8, depth=2)" or "butterfly * 2"'
# Called as methods of the rule, because a Family overrides some.
_FUNCTIONS = {"reverse": methodcaller("inverse"), "mirror": methodcaller("mirror")}


def parse(spec: str) -> Rule:
    """Return the family, or the composition of families, described by a spec string.

    A spec is a name, optionally followed by options, whose values are numbers, strings, None, or
    tuples of these. Names from the literature are accepted, too: boft and fft (butterfly), oft
    (block_diagonal), gsoft (shuffle of depth 2), clements (brickwall) and reck (triangle). Specs
    are composed by operators: `a @ b` is a product, in which b acts first, as for matrices;
    `a * 2` is a repetition; `reverse(a)` has the stages in reverse order; `mirror(a)` is a followed
    by its reverse, with a common middle stage; and `a[:3]` has the three leading stages. As
    options of any family, `reverse=True`, `repeat=2` and `mirror=True` mean the same, applied in
    this order. A spec is parsed, not evaluated; operators have the same precedence as in Python.

    Raises
    ------
    SpecError
        If the spec cannot be parsed, has an unknown name or option, or lacks a required option; or
        if it has more than 65,536 characters, 256 families or 32 nested operations.

    Examples
    --------
    >>> parse("monarch(radices=(16, 24))")(384)
    Network(width=384, depth=2, parameters=7296)
    >>> print(parse("boft(block=8, depth=4)"))
    butterfly(block=8, depth=4)
    >>> parse("butterfly * 2 @ shuffle(block=4)")(16)
    Network(width=16, depth=10, parameters=112)
    >>> print(parse("butterfly(repeat=2, block=4)"))
    butterfly(block=4) * 2
    >>> parse("buterfly")
    Traceback (most recent call last):
    ...
    structmat.errors.UnknownFamilyError: no family 'buterfly'; did you mean butterfly?
    """
    if not isinstance(spec, str):
        raise SpecError(f"{abbreviated(spec)}: a spec is a string; {_FORM}")
    if len(spec) > _LONGEST:
        raise SpecError(
            f"a spec of {len(spec):,} characters: it must have at most {_LONGEST:,}; build the"
            " network in Python and save it with Network.to_json"
        )
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SpecError(f"{abbreviated(spec)} cannot be parsed; {_FORM}") from None
    return _rule(tree, spec, 0)


def as_rule(topology: Rule | str) -> Rule:
    """Return a family or composition, parsing it if it is given as a spec string.

    Raises
    ------
    SpecError
        For an invalid spec, and for any other value.
    """
    return topology if isinstance(topology, Rule) else parse(topology)


def _rule(tree: ast.expr, spec: str, depth: int) -> Rule:
    if depth > _DEEPEST:
        _refuse(spec, "too many nested operations; build the network in Python")
    match tree:
        case ast.Name(name) | ast.Call(ast.Name(name), [], []) if name in _FUNCTIONS:
            _refuse(spec, f"{name} is applied to a spec, as in {name}(butterfly)")
        case ast.Name(name):
            return checked_family(name, {}, spec)
        case ast.Call(ast.Name(name)) if name in _FUNCTIONS:
            if len(tree.args) != 1 or tree.keywords:
                _refuse(spec, f"{name} takes one spec, as in {name}(butterfly)")
            return _composed(spec, _FUNCTIONS[name], _rule(tree.args[0], spec, depth + 1))
        case ast.Call(ast.Name(name)):
            entry(canonical(name)[0])  # an unknown name is an error before any of its options
            return checked_family(name, _options(tree, spec), spec)
        case ast.BinOp(op=ast.MatMult()):
            factors = []
            left: ast.expr = tree
            while isinstance(left, ast.BinOp) and isinstance(left.op, ast.MatMult):
                factors.append(_rule(left.right, spec, depth + 1))
                left = left.left
            product = _rule(left, spec, depth + 1)
            for factor in reversed(factors):
                product = _composed(spec, matmul, product, factor)
            return product
        case ast.BinOp(op=ast.Mult() | ast.Pow()):
            times = _literal(tree.right)
            if times is None:
                remedy = "the number of repetitions follows the spec, as in butterfly * 2"
                _refuse(spec, f"{remedy}; a product of two specs is butterfly @ benes")
            return _composed(spec, mul, _rule(tree.left, spec, depth + 1), times)
        case ast.Subscript(whole, ast.Slice(lower=None, upper=ast.expr() as stop, step=None)):
            leading = slice(_literal(stop))
            if leading.stop is None:
                _refuse(spec, "leading stages are counted by an integer, as in butterfly[:3]")
            return _composed(spec, getitem, _rule(whole, spec, depth + 1), leading)
        case ast.Subscript():
            _refuse(spec, "only leading stages can be selected, as in butterfly[:3]")
        case ast.BinOp():
            _refuse(spec, "the operators are @ (product), * (repetition) and [:k] (leading stages)")
    raise SpecError(f"{abbreviated(spec)} is not a name with options; {_FORM}")


def _options(call: ast.Call, spec: str) -> dict[str, Any]:
    """Return the options of a family as plain values."""
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        _refuse(spec, f"options are written name=value; {_FORM}")
    options: dict[str, Any] = {}
    for keyword in call.keywords:
        key = str(keyword.arg)
        if key in options:
            _refuse(spec, f"{key} is repeated; give one value")
        try:
            options[key] = plain(ast.literal_eval(keyword.value))
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            text = keyword.value.id if isinstance(keyword.value, ast.Name) else "text"
            _refuse(
                spec,
                f"the value of {key} must be a literal such as 8 or (2, 3), or a string in quotes,"
                f" as in {key}={abbreviated(text)}",
            )
    return options


def _literal(tree: ast.expr) -> Any:
    """Return the value of a literal, or None."""
    try:
        return ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _composed(spec: str, operation: Callable[..., Rule], *operands: Any) -> Rule:
    """Apply an operation of a rule; name the spec in any error."""
    try:
        return operation(*operands)
    except StructmatError as error:
        raise SpecError(f"{abbreviated(spec)}: {error}") from None


def _refuse(spec: str, reason: str) -> NoReturn:
    raise SpecError(f"{abbreviated(spec)}: {reason}") from None
