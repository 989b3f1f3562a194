"Tables of other people: six real ones that ship inside packages, five messy ones, and how each is written."
import sys

import numpy as np
import pandas as pd
from filelock import FileLock
from helpers import ENVS, sh

PACKAGES = ['palmerpenguins==0.1.6', 'vega-datasets==0.9.0']  # they carry files; none of their code is run


def packaged(name):
    "A file of a package that is unpacked for its data alone"
    folder = ENVS / 'tables'
    with FileLock(ENVS / 'tables.lock'):
        if not (folder / 'ready').exists():
            sh([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--upgrade', '--target', folder, *PACKAGES])
            (folder / 'ready').touch()
    return folder / name


def sklearn(name, target):
    "A table of scikit-learn, with the classes by name where it has classes"
    from sklearn import datasets
    found = getattr(datasets, f'load_{name}')(as_frame=True)
    frame = found.frame
    if 'target_names' in found and name in ('wine', 'breast_cancer'): frame['target'] = found.target_names[found.target]
    return frame, target


def penguins(): return pd.read_csv(packaged('palmerpenguins/data/penguins.csv')), 'species'
def weather(): return pd.read_csv(packaged('vega_datasets/_data/seattle-weather.csv')), 'weather'


REAL = {
    'breast_cancer': lambda: sklearn('breast_cancer', 'target'), 'wine': lambda: sklearn('wine', 'target'),
    'diabetes': lambda: sklearn('diabetes', 'target'), 'linnerud': lambda: sklearn('linnerud', 'Pulse'),
    'penguins': penguins, 'weather': weather}


def rows(n=200, seed=0):
    "Made-up rows in which `price` follows from the rest"
    rng = np.random.default_rng(seed)
    rooms, area, town = rng.integers(1, 7, n), rng.normal(80, 20, n).round(1), rng.choice(['Ulm', 'Bonn', 'Köln'], n)
    frame = pd.DataFrame({'rooms': rooms, 'area': area, 'town': town})
    return frame.assign(price=(frame.area * 3 + frame.rooms * 20 + rng.normal(0, 10, n)).round(2))


def dear(frame): return frame.assign(dear=np.where(frame.price > frame.price.median(), 'yes', 'no')).drop(columns='price')


def mixed(n=30):
    "A little of every kind: booleans and dates with gaps, addresses, and columns with names that Python keeps for itself"
    frame = rows(n).rename(columns={'area': 'class', 'town': 'self'})
    frame['garden'] = pd.Series([True, None, False] * (n // 3), dtype='boolean')
    frame['built'] = pd.Series(pd.date_range('2000-01-01', periods=n, freq='30D')).where(frame.index % 4 > 0)
    return frame.assign(email=[f'p{i}@x.org' for i in range(n)])


def untidy():
    "Headings that are no identifiers, rows without a target, columns of one value, and of none"
    frame = rows().rename(columns={'area': 'Fläche (m²)', 'price': 'Preis in € 🏠'}).assign(country='DE', year=2013, empty=None)
    frame.loc[frame.index % 3 == 0, 'Preis in € 🏠'] = np.nan
    return frame


MESSY = {
    'mixed': lambda: (dear(mixed()), 'dear'),
    'semicolons': lambda: (rows(), 'price'),
    'untidy': lambda: (untidy(), 'Preis in € 🏠'),
    'one_class': lambda: (dear(rows()).assign(dear='yes'), 'dear'), 'ten_rows': lambda: (dear(rows(10)), 'dear')}
REFUSED = {'one_class': 'one class only', 'ten_rows': '10 rows have a target'}  # and why
WAYS = {name: {'sep': ';', 'decimal': ',', 'encoding': 'utf-8-sig'} for name in ('semicolons', 'untidy')}


def write(name, folder):
    "The table as a CSV file in `folder`; the file and its target"
    frame, target = {**REAL, **MESSY}[name]()
    file = folder / f'{name}.csv'
    frame.to_csv(file, index=False, **WAYS.get(name, {}))
    return file, target
