"""What the product does: one async function per verb, each owning its own short transactions."""
