"""Run the study of finetuning methods: `python -m docs.method_study.runner`.

The results are appended to docs/results/method-study.jsonl, one line of JSON a run. The program may
be interrupted at any time and resumes at the same command. Several processes share the work,
whether started by `--workers`, by hand, or by `accelerate launch -m docs.method_study.runner`: each
takes a run that no other has taken. `--pilot` makes the smaller runs on which the power analysis
rests, and `--quick` takes seconds and checks that everything works.

The rate of a method is selected for each task by the mean validation loss over the tuning seeds,
from a grid that is the same for all methods. Test data play no part in it and are not even read in
those runs. All methods then use the same seeds; a seed determines the initial head (and for the
digits, the pretrained model), the batches and their order, and dropout.

**The fields of a run.** All losses are means in nats, per text or per predicted token. A field is
null where a task has no such measure or the number is not finite.

- `task`: "digits", "language", "docstrings" or "errors"; `method`: a key of `methods.METHODS`.
- `role`: "tuning", "study", "pilot" or "timing"; `budget`: "parameters" or "time", for runs at
  equal numbers of parameters and steps, or at equal training time. Timing has the budget "time".
- `seed`: tuning seeds start at 1000, pilot seeds at 2000, and those of the study at 0.
- `rate`: the maximum learning rate of the adapter; `steps`: the number of training steps.
- `setting`: the rank, block or topology for the layers "attention", "up" and "down".
- `trained`, `budgeted`: the number of parameters of the adapter, and the number that is equal for
  all methods up to 5 %, where the method allows it.
- `valid_loss`, `valid_accuracy`: on validation data, at the end.
- `test_loss` (the primary measure), `test_accuracy`, `test_brier` (the sum of squared errors of all
  probabilities) and `test_ece` (expected calibration error, 15 bins with equal numbers of
  predictions), at the end; absent from tuning runs. Accuracy and calibration are those of the next
  token for "language".
- `old_loss_before`, `old_loss`, `forgotten`: the loss on the task of pretraining, before and after,
  and the increase; `old_accuracy_before`, `old_accuracy`: the accuracy. Absent from tuning runs.
  The task of pretraining is to recognise the digits 0 to 4, to predict tokens of held-out files of
  the pretraining packages, or to find the rest of a docstring among others from its beginning.
- `curve`: for the pilot, a list with `step`, `valid_loss`, `valid_accuracy`, `test_loss` and
  `test_accuracy` at a quarter, a half and three quarters of the steps and at the end. The rate is
  that of the whole run, so the values before the end are not those of shorter runs.
- `items`: for the pilot, the test loss of each text or window, in an order that is the same for all
  runs of a task.
- `change`: how the adapted weights W changed, as means over the layers of "attention", "up" and
  "down", each with `relative` (Frobenius norm of ΔW relative to W), `spectral` (the same for the
  spectral norm), `effective_rank` of ΔW (exponential of the entropy of its normalised singular
  values), `top_inputs` and `top_outputs` (the shares of ‖ΔW‖² in the spaces of the first tenth of
  W's right and left singular vectors), `singular_values` (the relative change of W's singular
  values), and `energy_before` and `energy` (mean of 1/distance between the normalised rows of W, the
  hyperspherical energy of neurons). Absent from tuning runs.
- `step_seconds`: the median time of a step within this run, which depends on what else the machine
  was doing; `seconds`: the time of the whole run with evaluation.
- `diverged`: whether the training loss stopped being finite, or the validation loss is not finite.
- `sizes`: a key of the data, the sizes and the versions of libraries on which results depend; runs
  with another key are ignored and never overwritten.

A timing has `task`, `method`, `role`, `budget`, `sizes` and `rounds`, the seconds of a training step
in each round; rounds are interleaved between the methods of a task.
"""
