"""Small data and small models that need no download: for the examples, the docs, the tests and bug reports."""

from lightning_al.demos.classifier import Classifier
from lightning_al.demos.digits import DigitsCNN, DigitsDataModule
from lightning_al.demos.linear_head import LinearHead

__all__ = ["Classifier", "DigitsCNN", "DigitsDataModule", "LinearHead"]
