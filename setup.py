"Everything is read from settings.ini: change a requirement or the version there."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_namespace_packages, setup

parser = ConfigParser(delimiters=['='])
parser.read('settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
extras = {k.removesuffix('_requirements'): cfg[k].split() for k in cfg if k.endswith('_requirements')}

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    python_requires=f'>={cfg["min_python"]}',
    packages=find_namespace_packages(include=['mlops_kit*', 'hydra_plugins*']),
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': [f'{cfg["lib_path"]}={cfg["lib_path"]}._modidx:d'],
        'jupyter_client.kernel_provisioners': ['warm=mlops_kit.provisioner:WarmProvisioner'],
        'papermill.engine': ['warm=mlops_kit.engine:WarmEngine']},
    zip_safe=False)
