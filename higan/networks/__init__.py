"""Generator and discriminator, built from the same layers in one, two or three dimensions; keras.ops only."""
