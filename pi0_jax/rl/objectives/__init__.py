"""The losses of RL, one file per objective; `rl.config.RiptConfig` lists them by name."""
