"Fixtures shared by all tests, and the last word on a tier that is empty."
import signal

import pytest
from children import bare, child, children, kit, quick_copier, ran  # noqa: F401  (fixtures)
from helpers import built_wheel, kit_env
from images import images  # noqa: F401  (a fixture)
from servers import github, postgres, s3, wandb_server  # noqa: F401  (fixtures)

# A shell that puts us in the background ignores ^C for us and our children, and some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session')
def wheel():
    "The kit as a wheel"
    return built_wheel()


@pytest.fixture(scope='session')
def project_env(wheel):
    "One environment for all child projects: the wheel with what a project of any stage asks for, by the lock"
    return kit_env('project', wheel, 'registry', 'serve')


def pytest_collection_modifyitems(config, items):
    "Keep a group, and the tests of a flavour, on one worker: where xdist 3.8 puts it, pytest 9.2 does not look. The longest comes first"
    items.sort(key=lambda item: not any(name in item.nodeid for name in ('test_new_user', 'test_versions')))
    if not config.getoption('loadgroup', False): return
    for item in items:
        marks = sorted({m.args[0] for m in item.iter_markers('xdist_group')})
        group = '_'.join(marks) or (item.callspec.params.get('flavour') if hasattr(item, 'callspec') else None)
        if group and not item.nodeid.endswith(f'@{group}'): item._id = type(item._id).parse(f'{item.nodeid}@{group}')


def empty_tier(session, exitstatus):
    "The tier asked for by `-m full` or `-m soak`, when no test belongs to it yet"
    tier = session.config.option.markexpr
    whole = not session.config.option.keyword and not session.config.option.file_or_dir
    return tier if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and whole and tier in ('full', 'soak') else None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    "An empty tier passes, and says that it is empty; any other run without tests stays an error"
    if tier := empty_tier(session, exitstatus):
        print(f'\nNo test is marked `{tier}` yet: the tier is empty.')
        session.exitstatus = pytest.ExitCode.OK
