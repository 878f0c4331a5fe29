"""Everything between a raw observation or a recorded episode and the arrays of the model."""
