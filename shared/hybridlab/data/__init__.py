"""Texts and tasks that the models are trained on."""
