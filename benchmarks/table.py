"""The table of the field: learning rules of one spike per neuron, without gradients, by data sets.

    python benchmarks/table.py --data DIR                      # all cells, the cheapest and most telling first
    python benchmarks/table.py --data DIR --list               # what is filled, and what is missing
    python benchmarks/table.py --out benchmarks/table.json --page docs/table.md  # the page of what is filled

--out names the file of the results.

DIR holds MNIST and FashionMNIST as torchvision keeps them, cifar10_jpeg/{train,test}/CLASS, eth80/CLASS/OBJECT,
caltech10/CLASS, caltech_face_motorbike/{train,test}/CLASS and spoken_digits/DIGIT_SPEAKER_NUMBER.wav; a set that is not
there can be left out, by --sets. Every cell is learned with its seed and tested once, on the test images of its set.

It may be stopped or killed at any moment: each cell is written to the file as soon as it is filled, and the same
command goes on, within the cell that was under way. All of it takes a night on two cores (--processes 2).
"""

import argparse
import sys
from pathlib import Path

import common
from field import page
from field.cells import SEEDS, SIZES, Cell, Table, Work, fill, wanted
from field.data import SETS
from field.processes import by_processes
from field.rules import RULES


def size(text: str) -> int | None:
    """The type of an option: a number of images, or "all"."""
    return None if text == "all" else int(text)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="folder of the data sets")
    options.add_argument("--out", type=Path, default=Path("outputs/table.json"), help="(default outputs/table.json)")
    options.add_argument("--rules", nargs="+", choices=RULES, default=[*RULES], metavar="RULE", help=", ".join(RULES))
    options.add_argument("--sets", nargs="+", choices=SETS, default=[*SETS], metavar="SET", help=", ".join(SETS))
    options.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="(default 0 1 2)")
    options.add_argument("--sizes", nargs="+", type=size, default=(None, *SIZES), help='images to learn, or "all"')
    options.add_argument("--processes", type=int, default=1, help="of one core each (default 1)")
    options.add_argument("--list", action="store_true", help="say what is filled and what is missing, and stop")
    options.add_argument("--page", type=Path, help="write a page of what is filled, and its figure, and stop")
    return options


def tell(cells: list[Cell], table: Table) -> None:
    """What is filled, what failed and what is missing."""
    content = table.read()
    for cell in cells:
        known, failed = content["cells"].get(str(cell)), content["failed"].get(str(cell))
        missing = f"failed, {failed}" if failed else "missing"
        print(f"{cell}: {known['accuracy']:.1%}" if known else f"{cell}: {missing}")
    count = sum(str(cell) in content["cells"] for cell in cells)
    print(f"{count} of {len(cells)} cells are filled")


def main() -> None:
    options = parser().parse_args()
    table = Table(options.out)
    cells = wanted(options.rules, options.sets, options.seeds, options.sizes)
    if options.list:
        tell(cells, table)
    elif options.page:
        if not options.out.exists():
            parser().error(f"--out names the results that the page is made of; there is no file {str(options.out)!r}")
        page.write(table.filled(), options.page)
    elif options.data is None:
        parser().error("--data says where the data sets are")
    else:
        about = {**common.about(), "threads": 1}  # of each cell
        work = Work(options.data, options.out.with_suffix(".under_way"))
        fill(table, cells, lambda missing: by_processes(work, missing, options.processes), about)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on.")
