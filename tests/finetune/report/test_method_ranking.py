import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structmat.finetune.methods import named
from structmat.finetune.report.method_ranking import differences, ranking, verdict
from structmat.finetune.report.significance import LEVEL, paired
from tests.finetune.simulated import NAMES, simulated


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.2, 1), min_size=1), st.integers(0, 99))
def test_a_winner_is_significantly_better_than_every_other_method(chances, seed):
    rng = np.random.default_rng(seed)
    right = {name: rng.uniform(size=(1, 80)) < chance for name, chance in chances.items()}
    found = ranking(right, range(80))
    top = found["top"]
    assert right[top].mean() == max(each.mean() for each in right.values())
    assert len(found["pairs"]) == len(right) * (len(right) - 1) // 2
    verdicts = {name: verdict(found, name) for name in right}
    for name in right:
        if name == top:
            continue
        p = paired(right[top], right[name], range(80)).p
        assert (verdicts[name] == "worse") == (name not in found["tied"])
        if verdicts[name] == "worse":  # a correction makes no difference significant
            assert p <= LEVEL
        if p * len(found["pairs"]) <= LEVEL:  # nor does it hide one that survives Bonferroni
            assert verdicts[name] == "worse"
    tied = [name for name, said in verdicts.items() if said == "tie"]
    assert (found["winner"] == top) == (verdicts[top] == "best") == (len(right) > 1 and not tied)


def test_equal_answers_tie_with_p_1():
    right = np.array([[True, False, True]] * 2)
    found = ranking({"a": right, "b": right}, range(3))
    assert found["winner"] is None
    assert [pair["adjusted_p"] for pair in found["pairs"]] == pytest.approx([1.0])


LABELS = {name: named(name).label for name in NAMES}


def test_the_differences_are_those_of_the_pairs_with_the_best_method():
    found, _ = simulated((0.4, 0.75, 0.9), seeds=3, names=NAMES[:3])
    rows = {row["method"]: row for row in found["methods"]}
    lines = differences(found)
    assert [line[0] for line in lines] == [LABELS["lora"], LABELS["head"]]
    for line, name in zip(lines, ("lora", "head"), strict=True):
        expected = rows[name]["accuracy"] - rows["oft"]["accuracy"]
        assert float(line[1].replace("−", "-")) == pytest.approx(expected, abs=6e-4)
        low, high = (float(end.replace("−", "-")) for end in line[2].split(" to "))
        assert low < expected < high < 0
        alone = [int(number) for number in line[3].split(" : ")]
        assert (alone[0] - alone[1]) / (3 * 240) == pytest.approx(expected)
        assert line[4:] == ("< 0.001", "worse")
