"""Values, moments, addresses, Arrow and text: what every room uses; no module here imports another."""
