from structmat.finetune.methods import named
from structmat.finetune.report.method_ranking import plus_minus, verdict
from structmat.finetune.report.sentences import agreement_line, headline, rates_line, uncertainty
from tests.finetune.simulated import NAMES, simulated

LABELS = {name: named(name).label for name in NAMES}


def test_the_headline_names_the_winner_only_if_there_is_one():
    found, _ = simulated((0.4, 0.6, 0.9), names=NAMES[:3])
    (line,) = headline(found)
    assert line.startswith("OFT b=16 is the most accurate method: 0.")
    assert line.endswith("(p < 0.001 against each of the others).")
    assert [verdict(found["ranking"], name) for name in NAMES[:3]] == ["worse", "worse", "best"]


def test_the_headline_of_a_tie_names_the_tied_methods_and_their_costs():
    found, _ = simulated((0.4, 0.75, 0.76, 0.75), names=NAMES[:4])
    tie, others, costs, worse = headline(found)
    top = LABELS[found["ranking"]["top"]]
    assert tie.startswith("Tie: the highest test accuracy, 0.7")
    assert tie.endswith(f"({top}), does not differ significantly from those of 2 other methods.")
    for name in NAMES[1:4]:
        assert (LABELS[name] in others) == (LABELS[name] != top)
    assert costs.startswith(f"Of the tied methods, {LABELS['lora']} has the fewest parameters")
    assert costs.count(LABELS["lora"]) == 1
    assert worse == f"Significantly worse than {top}: head only."
    assert [verdict(found["ranking"], name) for name in NAMES[:4]] == ["worse", *["tie"] * 3]


def test_one_method_has_no_verdict_and_chance_is_recognised():
    found, _ = simulated((0.3,), names=NAMES[:1])
    accuracy, warning = headline(found)
    assert accuracy == f"head only: test accuracy {plus_minus(found['methods'][0])}."
    assert warning.startswith("No method is significantly better than always answering 'complaint'")
    assert verdict(found["ranking"], "head") == ""


def test_the_sentence_on_uncertainty_names_the_test_and_the_sources_of_variance():
    one, _ = simulated((0.4, 0.75), names=NAMES[:2])
    several, _ = simulated((0.4, 0.75, 0.8), seeds=3, names=NAMES[:3])
    assert "With one seed, it ignores differences between training runs" in uncertainty(one)
    assert "(exact McNemar test, 5 % level)" in uncertainty(one)
    assert "mean over 3 seeds" in uncertainty(several)
    assert "Holm’s correction for 3 comparisons" in uncertainty(several)


def test_the_counts_of_agreement_are_those_of_the_record():
    found, _ = simulated((0.4, 0.75), names=NAMES[:2])
    counts = found["agreement"]
    assert sum(counts.values()) == 240
    assert f"they disagree on {counts['disagree']}" in agreement_line(found)


def test_the_line_on_rates_says_how_they_were_found():
    default, given, search = (
        rates_line(simulated((0.9,), names=("boft",), **options)[0])
        for options in ({}, {"rate": 0.01}, {"search": True})
    )
    assert "the default of each method" in default
    assert given == "Learning rates: --rate, the same for all methods."
    assert "with 4 rates (--tune) on 600 training texts for 2 epochs" in search
    assert "the highest accuracy on 90 validation texts" in search
