"""What a network can represent: reachability, cuts, dimension, mixing, spectra and bounds."""
