__version__ = "0.2.0"


def load_ipython_extension(shell):
    "`%load_ext mlops_kit` in a notebook: %params, %runs, %compare"
    from .magics import load
    load(shell)
