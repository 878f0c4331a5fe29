"""The pi0 network and its flow-matching mathematics: the only folder that imports flax.linen."""
