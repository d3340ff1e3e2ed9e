"""The payment back end: takes money through Toss Payments for a shop, once."""

__version__ = "0.1.0"
