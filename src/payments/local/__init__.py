"""Everything on one machine with nothing but Python: a private PostgreSQL and the whole set of programs."""
