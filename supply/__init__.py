"""What this project takes from others: whether it is pinned, expected and without known weakness."""
