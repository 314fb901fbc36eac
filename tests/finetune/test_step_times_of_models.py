from structmat.finetune.hyperparameters import Hyperparameters
from structmat.finetune.methods import Method, named
from structmat.finetune.models import pretrained
from structmat.finetune.step_times import measure_model, seconds_a_step


def test_every_method_is_timed_in_every_round(tiny_model, task):
    steps = []
    seconds = seconds_a_step(
        [named("lora"), named("boft")],
        pretrained(str(tiny_model)),
        task,
        hyperparameters=Hyperparameters(),
        rounds=2,
        on_step=lambda: steps.append(1),
    )
    assert {name: len(times) for name, times in seconds.items()} == {"lora": 2, "boft": 2}
    assert all(time > 0 for times in seconds.values() for time in times)
    assert len(steps) == 2 * 3  # the first round warms up


def test_a_model_is_timed_with_every_method(tiny_model, task):
    methods = [named("head"), named("lora"), named("boft")]
    methods.append(Method("bad", "bad", "rotation", 1e-3, "butterfly(block=24)"))
    found = measure_model(
        methods,
        pretrained(str(tiny_model)),
        task,
        hyperparameters=Hyperparameters(batch=4),
        seconds=0,
        busy=True,
    )
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["head", "lora", "boft", "bad"]
    assert "has 32 inputs: butterfly" in rows.pop("bad").refused
    assert rows["head"].to_frozen == rows["lora"].to_lora == 1.0
    assert rows["head"].parameters < min(rows["lora"].parameters, rows["boft"].parameters)
    for row in rows.values():
        assert (row.subject, row.forward) == (tiny_model.name, None)
        assert row.step.rounds == 3
        assert row.memory > 0
        assert row.tokens % 4 == 0
    assert (found.setting["dtype"], found.setting["optimizer"]) == ("float32", "AdamW")
    assert found.setting["busy"]
    assert "warm-up, while another program occupied one core; " in str(found)
