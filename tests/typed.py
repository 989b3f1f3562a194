"What somebody types, done by a fork of this process: it is as new as a process, and has imported already what takes seconds."
import gc
import os
import runpy
import sys
import tempfile
import traceback
from types import SimpleNamespace

import typer
from children import QUIET


def leave(job):
    "End this process with the exit code of `job`"
    code = 99
    try: job()
    except SystemExit as e: code = e.code or 0
    except BaseException: traceback.print_exc()
    else: code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fork(job):
    "The id of a process that does `job`"
    pid = os.fork()
    if not pid: leave(job)
    return pid


def ended(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def become(path, command, env):
    "Be `python -m MODULE` from here on"
    os.environ.update(env)
    sys.argv = command[2:]
    runpy.run_module(command[2], run_name='__main__', alter_sys=True)


def kit(words, cwd, env, out, err):
    "`mlops-kit WORDS`, with its outputs to two open files"
    from mlops_kit.cli import main
    gc.disable()
    for fd, to in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)): os.dup2(to, fd)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0, closefd=False), *(os.fdopen(fd, 'w', closefd=False) for fd in (1, 2))
    vars(typer).pop('rich_utils', sys.modules.pop('typer.rich_utils', None))  # it asks the environment when it is imported
    os.chdir(cwd)
    os.environ.update(env)
    sys.argv, sys.path[0] = ['mlops-kit', *words], str(cwd)
    os.execve = become
    main()


def typed(words, cwd, env=QUIET):
    "Exit code and both outputs of `mlops-kit WORDS`"
    with tempfile.TemporaryFile('w+', encoding='utf-8') as out, tempfile.TemporaryFile('w+', encoding='utf-8') as err:
        code = ended(fork(lambda: kit(words, cwd, env, out.fileno(), err.fileno())))
        for f in (out, err): f.seek(0)
        return SimpleNamespace(code=code, out=out.read(), err=err.read())


def seen(words, cwd, **env):
    "What `mlops-kit WORDS` shows at a terminal, and its exit code"
    ours, theirs = os.openpty()
    pid = fork(lambda: kit(words, cwd, {**QUIET, 'TERM': 'xterm-256color', **env}, theirs, theirs))
    os.close(theirs)
    text = b''.join(iter(lambda: _piece(ours), b'')).decode()
    os.close(ours)
    return text, ended(pid)


def _piece(terminal):
    try: return os.read(terminal, 4096)
    except OSError: return b''  # so Linux says that nobody writes any more
