"""What the containers of docker-compose.yml run beside the three programs; none of it is imported by them."""
