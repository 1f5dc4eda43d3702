"""What is wrong with inverse roots as optimizers compute them, and whether their error indicators say so."""
