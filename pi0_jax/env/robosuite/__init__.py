"""Tasks on robosuite: Lift and LIBERO. The only folder that imports robosuite and MuJoCo."""
