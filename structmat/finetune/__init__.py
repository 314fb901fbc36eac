"""The main job: finetune a pretrained model with rotations, and report what came of it."""
