"""Foreign checkpoint layouts in and out: the only code that knows them."""
