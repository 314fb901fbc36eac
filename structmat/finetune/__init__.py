"""Finetuning of pretrained models with rotations and other methods, and reports of the results."""
