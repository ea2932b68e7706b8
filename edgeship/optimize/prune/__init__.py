"""Pruning of Keras models: `make.prune`. What to cut is computed from the configuration; one child cuts and tunes.

plan       what is asked for
network    a Keras configuration as calls between layers
channels   which channels belong together, and what holds them in place
rules      what each kind of layer does to channels
choose     which channels go
cut        the smaller configuration and weights
masks      magnitude and 2:4: weights set to zero, shapes unchanged
perform    the step that does it, with TensorFlow
make       the same from outside, kept by content
"""
