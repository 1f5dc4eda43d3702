"""The programs under study: plain jax.numpy, free of formats."""
