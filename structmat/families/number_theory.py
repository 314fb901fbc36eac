"""Elementary number theory for widths, blocks and radices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping


def prime_factors(number: int) -> list[int]:
    """Return the prime factors of `number`, smallest first.

    Examples
    --------
    >>> prime_factors(384)
    [2, 2, 2, 2, 2, 2, 2, 3]
    """
    factors = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return [*factors, number] if number > 1 else factors


def divisors(number: int) -> list[int]:
    """Return every divisor of `number`, smallest first.

    Examples
    --------
    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    found = [1]
    last, power = 0, 1
    for prime in prime_factors(number):
        power = power * prime if prime == last else prime
        last = prime
        found += [k * power for k in found if k % prime and number % (k * power) == 0]
    return sorted(found)


def factorizations(number: int) -> Iterator[tuple[int, ...]]:
    """Yield every ordered factorization of `number` into factors above 1.

    Examples
    --------
    >>> list(factorizations(8))
    [(8,), (2, 4), (2, 2, 2), (4, 2)]
    """
    if number == 1:
        return
    yield (number,)
    for first in divisors(number)[1:-1]:
        yield from ((first, *rest) for rest in factorizations(number // first))


def least_factorizations(number: int, largest: int) -> list[tuple[int, ...]]:
    """Return, for each number of factors, a factorization with the smallest sum of factors.

    The factors are in ascending order and at most `largest`, except for larger prime factors.

    Examples
    --------
    >>> least_factorizations(12, 6), least_factorizations(22, 6)
    ([(3, 4), (2, 2, 3)], [(2, 11)])
    """
    beyond = [prime for prime in prime_factors(number) if prime > largest]
    rest = number // math.prod(beyond)
    steps = [k for k in divisors(rest)[1:] if k <= largest]
    found = []
    level: dict[int, tuple[int, ...]] = {1: ()}  # the best factorization of each divisor
    while level:
        if rest in level:
            found.append((*sorted(level[rest]), *beyond))
        deeper: dict[int, tuple[int, ...]] = {}
        for divisor, factors in level.items():
            for step in steps:
                product, longer = divisor * step, (*factors, step)
                if rest % product == 0 and sum(longer) < sum(deeper.get(product, (product + 1,))):
                    deeper[product] = longer
        level = deeper
    return found


def best_factorization(number: int, costs: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the factorization with the smallest sum of the costs of its factors, largest first.

    Sums are compared entry by entry. Of several factorizations with the same sum, the one with the
    largest factors is returned.

    Parameters
    ----------
    number : int
        At least 2.
    costs : mapping from a factor to a tuple of int
        The factors to use, each at least 2, with tuples of one length. The prime factors of the
        number must be among them.

    Examples
    --------
    >>> best_factorization(768, {r: (1, r) for r in range(2, 17)})   # few factors of small sum
    (12, 8, 8)
    """
    # For each divisor, its best factorization: the cost, and the factors, negated.
    best: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    factors = [part for part in divisors(number) if part in costs]
    for whole in divisors(number)[1:]:
        best[whole] = min(
            (
                tuple(map(sum, zip(before, costs[factor], strict=True))),
                tuple(sorted((*used, -factor))),
            )
            for factor in factors
            if whole % factor == 0 and (whole == factor or whole // factor in best)
            for before, used in [best.get(whole // factor, ((0,) * len(costs[factor]), ()))]
        )
    return tuple(-factor for factor in best[number][1])


def ceil_log(number: int, base: int) -> int:
    """Return ⌈log_base number⌉ in exact arithmetic: the least k with base^k at least `number`.

    Examples
    --------
    >>> ceil_log(384, 8), ceil_log(64, 8), ceil_log(1, 2)
    (3, 2, 0)
    """
    exponent, power = 0, 1
    while power < number:
        exponent, power = exponent + 1, power * base
    return exponent


def is_power(number: int, base: int) -> bool:
    """Return whether `number` is base^n for some n ≥ 1.

    Examples
    --------
    >>> is_power(64, 4), is_power(32, 4), is_power(1, 4)
    (True, False, False)
    """
    return number > 1 and base ** ceil_log(number, base) == number


def below_two(width: int) -> str | None:
    """Return the violated rule if `width` is below 2, else None.

    Examples
    --------
    >>> below_two(1), below_two(2)
    ('width must be at least 2', None)
    """
    return None if width > 1 else "width must be at least 2"


def not_power_of_two(width: int) -> str | None:
    """Return the violated rule if `width` is not a power of two above 1, else None.

    Examples
    --------
    >>> not_power_of_two(48), not_power_of_two(64)
    ('width must be 2^n with n ≥ 1', None)
    """
    return None if width > 1 and width.bit_count() == 1 else "width must be 2^n with n ≥ 1"


def not_composite(width: int) -> str | None:
    """Return the violated rule if `width` is not a product of two factors above 1, else None.

    Examples
    --------
    >>> not_composite(7), not_composite(6)
    ('width must be a product of two factors above 1', None)
    """
    composite = width > 3 and len(prime_factors(width)) > 1
    return None if composite else "width must be a product of two factors above 1"
