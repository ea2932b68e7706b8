"""The main job: a plan (pure data), and the performer that carries it out stage by stage."""
