"Hydra looks for plugins only in this package; the code is in `mlops_kit.sweep`"
from hydra.core.config_store import ConfigStore
from mlops_kit import sweep

class OptunaSweeper(sweep.OptunaSweeper): __doc__ = sweep.OptunaSweeper.__doc__

store = ConfigStore.instance()
node = dict(sweep.KEYS, _target_=f'{__name__}.OptunaSweeper', defaults=[dict(sampler='tpe'), dict(pruner='median'), '_self_'])
store.store(group='hydra/sweeper', name='mlops_kit', node=node, provider='mlops_kit')
for group,choices in dict(sampler=sweep.SAMPLERS, pruner=sweep.PRUNERS).items():
    for name,choice in choices.items(): store.store(group=f'hydra/sweeper/{group}', name=name, node=choice, provider='mlops_kit')
