"""Measurements of this product on the machine at hand. Nothing here is a test: speed is measured, not asserted."""
