"""How the family learns: first the autoencoder, then words, UNet and face adapter together, then IdentityNet."""
