"A short table in which all options meet in pairs."
from itertools import combinations


def met(row):
    "The pairs that stand side by side in a row"
    return {*combinations(sorted(row.items()), 2)}


def all_pairs(options):
    "Every two options of two lists, each list by name and each option by number"
    numbers = {name: range(len(found)) for name, found in options.items()}
    return {p for a, b in combinations(options, 2) for i in numbers[a] for j in numbers[b] for p in met({a: i, b: j})}


def pairwise(options, have=()):
    "Few rows that have all pairs but those of the rows in `have`: each begins with one that is missing, and takes what brings most others"
    missing, rows = all_pairs(options).difference(*map(met, have)), []
    while missing:
        row = dict(min(missing))
        for name in options:
            if name not in row: row[name] = max(range(len(options[name])), key=lambda i: len(met({**row, name: i}) & missing))
        missing -= met(row)
        rows.append(row)
    return rows
