"""The formats of programs for image generation."""
