"""A tiny shop that shows how to integrate `payments`, and is its order service in the local run."""
