"""A local, stateful stand-in for the Toss Payments API, with fault injection."""
