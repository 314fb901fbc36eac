"""A rehearsal of PEFT's comparison on a CPU, with a tiny model and tiny data.

Importing this module before `run.py` of PEFT's task MetaMathQA replaces what needs a GPU or a
download: the model, the tokenizer, the data and the description of the machine. Everything else is
PEFT's own code, above all its training loop and the functions that adapt, evaluate and save.

    python -m structmat.bench.method_comparison CLONE --import tests.bench.peft_rehearsal
"""

import random

import data
import datasets
import peft.utils
import tokenizers
import torch
import transformers

peft.utils.infer_device = lambda: "cuda"  # utils.py refuses to be imported without one
import utils  # noqa: E402 (PEFT's, in the working directory)

WIDTH, STEPS = 3072, 4  # the true width, but few steps
_WORDS = ["the", "answer", "is", "one", "two", "three", "four", "####", "1", "2", "3", "4", "."]


def _tokenizer(**_):
    vocabulary = {word: k for k, word in enumerate(["<eos>", "<unk>", *_WORDS])}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="<unk>")
    words = tokenizers.Tokenizer(model)
    words.normalizer = tokenizers.normalizers.Lowercase()
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>"
    )
    made.model_max_length = 64
    made.padding_side = "right"
    return made


def _texts(count):
    """Return questions with their answers, whose last word is the number in the question."""
    rng = random.Random(0)
    numbers = ["one", "two", "three", "four"]
    chosen = [rng.randrange(4) for _ in range(count)]
    return [f"{numbers[k]} ." for k in chosen], [f"the answer is #### {k + 1}" for k in chosen]


def _dataset(name, **columns):
    # The fingerprint is given, because some versions of datasets cannot compute it.
    table = datasets.table.InMemoryTable.from_pydict(columns)
    return datasets.Dataset(table, fingerprint=name)


def _load_dataset(name, *_, **__):
    questions, answers = _texts(48)
    if "wiki" in name:
        return _dataset("wiki", text=[f"{q} {a}" for q, a in zip(*_texts(8), strict=True)])
    if "gsm8k" in name:
        few = questions[:8], answers[:8]
        train = _dataset("train", question=questions, answer=answers)
        return datasets.DatasetDict(
            train=train, test=_dataset("test", question=few[0], answer=few[1])
        )
    rest = {"type": ["GSM"] * 48, "original_question": questions}
    return datasets.DatasetDict(train=_dataset("meta", query=questions, response=answers, **rest))


def _base_model(**_):
    """Return a model trained briefly on the texts, because PEFT's program checks its first loss."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=24,
            num_key_value_heads=8,
            head_dim=128,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    batch = tokenizer(
        [f"{q} {a}" for q, a in zip(*_texts(8), strict=True)], return_tensors="pt", padding=True
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(50):
        loss = model(**batch, labels=batch["input_ids"]).loss
        if loss < 1.8:
            return model
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError(f"the loss is still {loss:.2f}")


def _settings(path, read=utils.get_train_config):
    found = read(path)
    found.max_steps, found.eval_steps, found.batch_size_eval = STEPS, STEPS // 2, 8
    found.generation_kwargs = {"max_length": 32, "max_new_tokens": 6}
    return found


data.load_dataset = _load_dataset
data.VALID_SIZE = 8
utils.get_base_model = _base_model
utils.get_tokenizer = _tokenizer
utils.get_train_config = _settings
utils.init_accelerator = lambda: 0
utils.get_peft_branch = lambda: "rehearsal"  # the result goes to temporary_results/
utils.get_system_info = lambda: {"accelerator": "none"}
utils.get_base_model_info = utils.get_dataset_info = lambda _: None
