"""The networks of a study that has run, measured as they would be used: `profile_study`."""

from kdbench.profile.measure import profile_study

__all__ = ["profile_study"]
