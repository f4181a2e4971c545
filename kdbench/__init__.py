"""kdbench: which knowledge-distillation method is really better, and by how much."""

__version__ = "0.1.0"
