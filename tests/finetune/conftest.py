"""A tiny BERT with random weights and the packaged tokenizer, and a task of generated texts."""

import functools
import random
import warnings

import pytest

from structmat.errors import require
from structmat.finetune import docstring_task as corpus
from structmat.finetune.models import pretrained
from structmat.finetune.task import balanced

SUBJECTS = {
    "sea": "wave tide harbour sail coral reef anchor gull current island whale storm",
    "city": "street tram bridge tower market crowd station window square traffic roof lamp",
    "field": "wheat plough meadow barn harvest fence cattle orchard soil seed tractor hay",
}


def sentences(subject, count):
    rng = random.Random(subject)
    return [
        f"the {' '.join(rng.sample(SUBJECTS[subject].split(), 6))} number {rng.random()}"
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def read_once():
    """A version of `docstrings` that parses each package once for all tests."""
    parse = corpus.docstrings
    return functools.cache(lambda package: list(parse(package)))


@pytest.fixture(scope="session")
def docstrings(read_once):
    """The default task, which takes a while to collect."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "docstrings", read_once)
        return corpus.docstring_task()


@pytest.fixture(scope="session")
def task():
    texts = {subject: sentences(subject, 30) for subject in SUBJECTS}
    return balanced("places", texts, train=16, validation=6, test=8)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The directory of a BERT of two blocks, 32 wide."""
    directory = tmp_path_factory.mktemp("tiny-bert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing transformers and what it brings
        transformers = require("transformers", "finetune")
    pretrained().tokenizer().save_pretrained(directory)
    config = transformers.BertConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.2,
    )
    transformers.set_seed(0)
    transformers.BertModel(config).save_pretrained(directory)
    return directory
