"Hydra looks for plugins only in this package; the code is in `mlops_kit.sweep`"
from hydra.core.config_store import ConfigStore
from mlops_kit import sweep

class OptunaSweeper(sweep.OptunaSweeper): __doc__ = sweep.OptunaSweeper.__doc__

node = dict(sweep.DEFAULTS, _target_=f'{__name__}.OptunaSweeper')
ConfigStore.instance().store(group='hydra/sweeper', name='mlops_kit', node=node, provider='mlops_kit')
