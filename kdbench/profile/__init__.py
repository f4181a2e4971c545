"""The networks of studies that have run, measured as they would be used: `profile_studies`."""

from kdbench.profile.measure import profile_studies

__all__ = ["profile_studies"]
