"""The table of the field: learning rules by data sets; `python benchmarks/table.py` fills it.

data.py has the data sets, fronts.py the ways from images to first spikes, rules.py the rules, cost.py what a decision
costs; cells.py fills one cell after the other, and page.py makes a page of them.
"""
