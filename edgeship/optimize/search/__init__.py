"""Search: many ways to make a variant, measured cheaply first; the best one that meets a budget.

candidate   what can be tried, as data
store       samples on the disk, for processes that share them
evaluate    one candidate built and judged, in a process of its own
halving     which candidates deserve more samples
mixed       which layers stay in float
mending     what is tried with finalists that break the budget
latency     how fast the survivors are, here or on a device
pick        the Pareto front, the pick and its reason, or the nearest miss
run         the whole search
report      what it found, as data and as a page
"""
