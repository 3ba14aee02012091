"""The fast loops, in numba: one image after the other, one input spike after the other.

:mod:`.layout` says how maps and weights lie in memory and in which order potentials are added, on which all else rests.
"""
