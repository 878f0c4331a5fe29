"""One RIPT iteration: rollouts in groups, leave-one-out advantages, weighted updates."""

import pi0_jax as pj

config = pj.RiptConfig(
    iterations=3,
    updates_per_iteration=2,
    batch_size=8,
    time_samples=2,
    groups=pj.GroupConfig(group_size=4, groups_per_iteration=3, max_groups=6, first_seed=0),
)
task = pj.ScriptedTask(max_steps=8, image_size=16, tolerance=0.6, speed=0.3)
policy, optimizer = pj.testing.tiny_policy(), pj.OptimizerConfig(1e-3, 1, preset="expert_only")
with pj.InProcess() as engine:
    # loss=huber_loss, as in custom_loss.py, would train with that loss instead.
    setup, state = pj.create_loop(policy, [task], engine, config, optimizer)
    state, report = pj.run_iteration(setup, state)
print(f"{report.metrics['rollouts']} rollouts, loss {report.metrics['loss']:.3f}")
better = pj.improved_policy(setup, state)  # a PolicyFolder: pj.save_policy(path, better, {})
