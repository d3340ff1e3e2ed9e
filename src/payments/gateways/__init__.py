"""Where the world outside is asked: the PG and the order service."""
