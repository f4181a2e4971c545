"""The text of a report: captions and notes."""
