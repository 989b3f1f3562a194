"Everything is read from settings.ini: change a requirement or the version there."
from configparser import ConfigParser

from setuptools import find_packages, setup

parser = ConfigParser(delimiters=['='])
parser.read('settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    license=cfg['license'],
    python_requires=f'>={cfg["min_python"]}',
    packages=find_packages(include=[f'{cfg["lib_path"]}*']),
    install_requires=cfg['requirements'].split(),
    entry_points=dict(nbdev=[f'{cfg["lib_path"]}={cfg["lib_path"]}._modidx:d']),
    zip_safe=False)
