"""The proof: everything is broken on purpose, again and again, and the books are compared afterwards."""
