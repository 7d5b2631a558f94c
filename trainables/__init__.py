"""What is learned: losses, backbones, the faces table, and the one training loop. Plain torch."""
