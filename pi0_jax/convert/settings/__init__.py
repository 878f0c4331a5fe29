"""Beside the tensors: settings of lerobot, transformers and openpi, every one accounted for."""
