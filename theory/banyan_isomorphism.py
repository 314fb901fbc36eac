"""Omega, baseline, butterfly, reverse butterfly and shuffle are equal up to relabelling of wires.

Statement. Let d = b^n, and write the number of each wire as n digits in base b, digit 0 being the
last. Once the wiring between the stages is moved to the ends of the network, stage t = 0 … n−1
joins the wires that differ in one digit only, namely digit

    t in the butterfly and the baseline network,
    n−1−t in the reverse butterfly and the omega network,
    −t mod n in the shuffle network.

Let σ(t) be the digit in which the wires joined by stage t differ. Each of these networks therefore
becomes the butterfly if digit σ(t) of each wire is moved to place t, for every t, and the sets of
matrices of any two agree up to a permutation of the inputs and one of the outputs.

Proof. For the butterfly and its reverse this is the definition. For the others, follow wire i
through identity blocks, as straightening does. Omega: each stage rotates the digits of the position
left by one and then joins positions that differ in the last digit; after t + 1 rotations the last
digit is digit n−1−t of i. Baseline: by induction, before stage t the first t digits of the position
are digits 0 … t−1 of i in this order, and the others are those of ⌊i/b^t⌋; the stage joins
positions that differ in the last digit, which is digit t of i, and then moves it to place t from
the front. Shuffle: stages join positions that differ in the last digit, and between them the digits
rotate left by one; after t rotations the last digit is digit −t mod n of i. Relabelling the wires
by a permutation of digits maps each set of wires that agree in all digits but σ(t) to a set of
wires that agree in all digits but t, which is a switch of stage t of the butterfly.

Source: C.-L. Wu and T.-Y. Feng, On a class of multistage interconnection networks, IEEE
Transactions on Computers C-29, 1980, for b = 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

import structmat as sm

NUMBER = "T22"
STATUS = "proved"
WIDEST = 256


def check() -> str:
    """Relabel as in the proof and compare the switches; find a relabelling independently."""
    cases = 0
    for block in range(2, 6):
        for n in range(1, 11):
            width = block**n
            if width > WIDEST:
                break
            butterfly = sm.mixed_radix(width, [block] * n)
            for name, digits, net in _networks(block, n):
                straight = net.straightened().network
                places = _renaming(block, digits)
                assert _switches(straight.relabel(places)) == _switches(butterfly), (name, width)
                found = sm.isomorphism(net, butterfly, ends=not net.is_straight)
                assert found is not None, (name, width)
                cases += 1
    return f"{cases} networks of radix 2 to 5, at all widths up to {WIDEST}"


def _networks(block: int, n: int) -> Iterator[tuple[str, list[int], sm.Network]]:
    """Yield the name of each network, the digit for each of its stages, and the network."""
    width = block**n
    forwards, backwards = list(range(n)), list(range(n))[::-1]
    yield "baseline", forwards, sm.families.baseline(width, block)
    yield "omega", backwards, sm.families.omega(width, block)
    yield "reverse butterfly", backwards, sm.mixed_radix(width, [block] * n, reverse=True)
    yield "shuffle", [-t % n for t in range(n)], sm.shuffle(width, block)
    if block == 2:
        yield "butterfly", forwards, sm.butterfly(width)


def _renaming(block: int, digits: Sequence[int]) -> np.ndarray:
    """Return the new number of each wire: digit `digits[t]` of the old one is moved to place t."""
    wires = np.arange(block ** len(digits))
    return sum(wires // block**digit % block * block**t for t, digit in enumerate(digits))


def _switches(net: sm.Network) -> list[set[frozenset[int]]]:
    rows = ([row for bank in stage.banks for row in bank.reads.tolist()] for stage in net)
    return [set(map(frozenset, stage)) for stage in rows]
