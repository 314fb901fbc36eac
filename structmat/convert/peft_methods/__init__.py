"""The formats of PEFT's methods."""
