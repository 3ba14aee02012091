"""Private: the fast loops behind :mod:`spyketorch.latency`, each registered as a torch custom operator.

``operators`` holds the operators, which ``defining`` makes known to torch; ``plain`` what they do in torch on any
device, ``loops`` what they do on a CPU where numba is installed. ``serving`` says whether the loops serve.
"""
