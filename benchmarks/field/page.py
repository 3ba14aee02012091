"""A page of what is filled: accuracy first, published figures beside ours, what a decision costs, and the curves."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from field import rules
from field.cells import SEEDS, SIZES, Cell, wanted
from field.data import SETS
from field.rules import RULES

SPIKING = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito 2008
READ = ("black", "#777777", "#BBBBBB")  # of rules with a linear read-out

Filled = Mapping[str, Mapping[str, Any]]


class Published(NamedTuple):
    """A figure of a paper, in per cent, and the rule and the set that stand for it here."""

    accuracy: float
    rule: str
    set: str
    source: str
    differs: str = ""


PUBLISHED = (
    Published(98.9, "mozafari2018", "faces_motorbikes", rules.MOZAFARI_2018),
    Published(89.5, "mozafari2018", "eth80", rules.MOZAFARI_2018, "one recipe for all sets here"),
    Published(97.2, "mozafari2019", "mnist", rules.MOZAFARI_2019, "one recipe for all sets here"),
    Published(98.4, "kheradpisheh2018", "mnist", rules.KHERADPISHEH, "potentials are read there, spike times here"),
    Published(98.60, "target_time", "mnist", rules.FALEZ, "several layers there, one here"),
    Published(99.46, "target_time", "faces_motorbikes", rules.FALEZ, "several layers there, one here"),
    Published(98.92, "s2_ncg_step", "mnist", rules.NCG, "more epochs there"),
    Published(88.72, "s2_ncg_step", "fashion_mnist", rules.NCG, "more epochs there"),
    Published(66.41, "s2_ncg_step", "cifar10_jpeg", rules.NCG, "original images and more epochs there"),
    Published(98.56, "vdsp", "mnist", rules.VDSP_2023, "equation and steps are adapted here"),
)


class Seeds(NamedTuple):
    """What is known of a rule, a set and a size, one result for each seed that is filled."""

    results: list[Mapping[str, Any]]

    def mean(self, name: str) -> float:
        return mean(float(result[name]) for result in self.results)

    @property
    def accuracy(self) -> str:
        """Mean, and range in brackets; a dash where nothing is filled."""
        if not self.results:
            return "-"
        found = [100 * float(result["accuracy"]) for result in self.results]
        spread = f" ({min(found):.1f}-{max(found):.1f})" if len(found) > 1 else ""
        missing = "" if len(found) == len(SEEDS) else f" [{len(found)}]"
        return f"{mean(found):.1f}{spread}{missing}"


def seeds(filled: Filled, rule: str, name: str, size: int | None = None) -> Seeds:
    cells = [str(Cell(rule, name, seed, size)) for seed in SEEDS]
    return Seeds([filled[cell] for cell in cells if cell in filled])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = ["| " + " | ".join(line) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def accuracies(filled: Filled) -> str:
    rows = [[rule.title, *(seeds(filled, key, name).accuracy for name in SETS)] for key, rule in RULES.items()]
    return table(["test accuracy, %", *(some.title for some in SETS.values())], rows)


def beside(filled: Filled) -> str:
    rows = []
    for one in PUBLISHED:
        ours = seeds(filled, one.rule, one.set).accuracy
        rows.append([SETS[one.set].title, RULES[one.rule].title, f"{one.accuracy:g}", ours, one.source, one.differs])
    return table(["data", "rule", "published, %", "here, %", "source", "what differs"], rows)


def costs(filled: Filled) -> Iterator[str]:
    """A table for each set of which anything is filled."""
    head = ["accuracy, %", "deciding neurons", "spikes an image", "additions an image", "seconds"]
    for name, some in SETS.items():
        rows = []
        for key, rule in RULES.items():
            of_seeds = seeds(filled, key, name)
            if of_seeds.results:
                figures = [f"{of_seeds.mean(part):,.0f}" for part in ("deciding", "spikes", "additions", "seconds")]
                rows.append([rule.title, of_seeds.accuracy, *figures])
        if rows:
            yield f"### {some.title}\n\n{table(['', *head], rows)}"


def draw(filled: Filled, path: Path) -> bool:
    """The curves, a panel for each set that has any; False where there are none."""
    curves = {name: {key: points for key in RULES if len(points := curve(filled, key, name)) > 1} for name in SETS}
    drawn = {name: of_rules for name, of_rules in curves.items() if of_rules}
    if not drawn:
        return False
    columns = min(3, len(drawn))
    rows = len(drawn) // columns + 1  # with a panel for the names
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    looks = styles()
    for ax, (name, of_rules) in zip(axes, drawn.items(), strict=False):
        for key, points in of_rules.items():
            images, low, middle, high = zip(*points, strict=True)
            ax.plot(images, middle, **looks[key], marker="o", markersize=3, label=RULES[key].title)
            ax.fill_between(images, low, high, color=looks[key]["color"], alpha=0.15, linewidth=0)
        ax.set(xscale="log", title=SETS[name].title, xlabel="images learned", ylabel="test accuracy, %")
        ticks = [10**power for power in range(2, 6) if images[0] <= 10**power <= images[-1]]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(drawn) :]:
        ax.axis("off")
    lines = {line.get_label(): line for ax in axes for line in ax.get_lines()}
    axes[-1].legend(lines.values(), lines.keys(), loc="center", frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return True


def styles() -> dict[str, dict[str, str]]:
    """How the line of each rule is drawn."""
    spiking = zip((key for key, rule in RULES.items() if rule.local), SPIKING, strict=True)
    read = zip((key for key, rule in RULES.items() if not rule.local), READ, strict=True)
    solid = {key: {"color": colour, "linestyle": "-"} for key, colour in spiking}
    return solid | {key: {"color": colour, "linestyle": "--"} for key, colour in read}


def curve(filled: Filled, rule: str, name: str) -> list[tuple[int, float, float, float]]:
    """Images, and the least, mean and largest accuracy, in per cent, from the fewest images up."""
    points = []
    for size in (*SIZES, None):
        results = seeds(filled, rule, name, size).results
        if results:
            found = [100 * float(result["accuracy"]) for result in results]
            points.append((int(results[0]["images"]), min(found), mean(found), max(found)))
    return points


def machine(filled: Filled) -> str:
    """Where and with what the cells were filled."""
    told = [result["about"] for result in filled.values()]
    days = sorted({one["date"] for one in told})
    commits = ", ".join(sorted({one["commit"] for one in told}))
    versions = ", ".join(
        sorted({f"{name} {one[name]}" for one in told for name in ("torch", "numpy", "numba") if name in one})
    )
    processors = "; ".join(sorted({one["processor"] for one in told}))
    between = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"Measured {between}, {processors}, one thread a cell; {versions}; commit {commits}."


def warned(filled: Filled) -> Iterator[str]:
    """Cells in which the training gave a warning, and the first of them."""
    for cell, result in filled.items():
        if result["warnings"]:
            yield f"- `{cell}`: {result['warnings'][0]}"


PAGE = """# The table of the field

Rules that learn with one spike per neuron and without gradients, on the same data, by one command:

```
python benchmarks/table.py --data DIR --processes 2    # a night on two cores; killed, it goes on where it was
python benchmarks/table.py --page table.md             # this page, from what that filled
```

{filled} of {wanted} cells are filled; what is not yet is a dash, or missing below.
{machine}
Each cell with its commit, versions and date is in `benchmarks/table.json`.

## Accuracy

Mean of seeds 0, 1 and 2 and their range; in square brackets how many seeds, where not all three are filled.

{accuracies}

A cell is one recipe of a rule, which goes by the number of images and is tuned to no data set: experiments of their
own reach more ([Accuracy](accuracy.md)). Linear read-outs are support vector machines on times of first spikes; of the
other rules all that decides is learned by spikes. The test set is seen once in each cell.

## Beside published figures

{beside}

CIFAR-10 is that of copies that were saved as JPEG throughout.

## What a decision costs

*Deciding neurons* stand for a class: those of the last layer, at all its places, or of the read-out (a linear one has
one unit for each class, which does not spike). *Spikes* are first spikes of the encoder and of the layers below those
neurons, *additions* what they cause: each spike adds the weights of all synapses that it reaches. Both are means over
some 500 test images, and counted up to the decision, which is the end of the image unless the read-out decides by its
first spike. Not counted are the filters of the encoder, and what a ramp grows by, one addition for each of its neurons
and steps. *Seconds* are of one processor, for learning and the test.

{costs}

## From few images

{curves}

## Data and recipes

{data}

The rules:

{recipes}
{warned}"""

CURVES = """![Test accuracy against the number of images learned, of each rule on each data set](images/{name})

*Mean and range of the seeds that are filled; broken lines have a linear read-out. Features, too, learn from these
images alone.*"""


def write(filled: Filled, path: Path) -> None:
    """The page, and its figure in the folder images beside it."""
    picture = path.parent / "images" / f"{path.stem}.png"
    drawn = draw(filled, picture)
    warnings = [*warned(filled)]
    text = PAGE.format(
        filled=sum(str(cell) in filled for cell in all_cells()),
        wanted=len(all_cells()),
        machine=machine(filled) if filled else "",
        accuracies=accuracies(filled),
        beside=beside(filled),
        costs="\n\n".join(costs(filled)) or "Nothing is filled yet.",
        curves=CURVES.format(name=picture.name) if drawn else "The curves are not filled yet.",
        data="\n".join(
            f"- **{some.title}**: {some.learned:,} learned, {some.tested:,} tested. {_told(some.halves)}"
            for some in SETS.values()
        ),
        recipes="\n".join(f"- **{rule.title}** (`{key}`): {rule.recipe} {rule.source}." for key, rule in RULES.items()),
        warned="\n## Warnings\n\nWhat the training warned of, the first of each cell:\n\n" + "\n".join(warnings) + "\n"
        if warnings
        else "",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def all_cells() -> list[Cell]:
    return wanted(RULES, SETS, SEEDS, (None, *SIZES))


def _told(halves: Any) -> str:
    return " ".join(halves.__doc__.split())
