"""Adversarial training: objectives (pure functions), the step, the loop; one small file a backend."""
