"""What a browser sees of the sandbox: the SDK, the payment window and the dashboard."""
