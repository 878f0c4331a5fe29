"""Names and axes: our leaves against the tensors of every layout."""
