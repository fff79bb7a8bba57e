"""A busy machine may take its time over a single example."""

from hypothesis import settings

settings.register_profile("spec", deadline=None)
settings.load_profile("spec")
