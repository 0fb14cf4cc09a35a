"""Which share of the code the tests are to reach, checked on coverage's report: coverage_floors.py FILE."""

import json
import sys
from collections import Counter
from pathlib import Path

# Package → the smallest share of its lines, and of its branches, in percent.
FLOORS = {"zeroq": (97, 93), "experiments": (92, 88)}
SHOWN = 10  # of the files with most lines that nothing reaches


def main() -> None:
    measured = json.loads(Path(sys.argv[1]).read_text())["files"]
    # Tests run copies of the project elsewhere, which are measured too.
    files = {Path(name): each["summary"] for name, each in measured.items() if Path(name).parts[0] in FLOORS}
    below = []
    for package, floors in FLOORS.items():
        total = Counter()
        for name, summary in files.items():
            if name.parts[0] == package:
                total.update({key: number for key, number in summary.items() if isinstance(number, int)})
        pairs = [("covered_lines", "num_statements"), ("covered_branches", "num_branches")]
        for what, (reached, all_of_them), floor in zip(("lines", "branches"), pairs, floors, strict=True):
            share = 100 * total[reached] / max(total[all_of_them], 1)
            print(f"{share:.1f} % of {package}'s {what} are reached, {floor} are to be")
            if share < floor:
                below.append(f"{package}'s {what}")
    for name, summary in sorted(files.items(), key=lambda each: -each[1]["missing_lines"])[:SHOWN]:
        print(f"  {summary['missing_lines']} lines of {name} are not reached")
    if below:
        sys.exit(f"error: too few of {' and '.join(below)} are reached")


if __name__ == "__main__":
    main()
