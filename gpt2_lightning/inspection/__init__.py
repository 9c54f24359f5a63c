"""Numbers first, pictures from them."""
