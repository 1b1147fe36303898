"""Ends a process that loads a pickle, and says so in the file that MUSTER_PICKLE_HITS names.

Every way in is replaced: functions and classes, those of C and those of Python. The classes stay
subclasses of what they were, because pysyncobj writes to `_Unpickler.dispatch` when it is imported.

A process that is to have something else replaced too says with MUSTER_STUB which module beside this
one does it, and is watched all the same.
"""

import _pickle
import importlib
import os
import pickle
import sys
import traceback

ENDED_BY_PICKLE = 86


def _hit(*_args, **_options):
    with open(os.environ["MUSTER_PICKLE_HITS"], "a", encoding="utf-8") as hits:
        hits.write(f"{sys.argv}: {traceback.format_stack(limit=6)}\n")
    os._exit(ENDED_BY_PICKLE)


class _Unpickler(pickle._Unpickler):
    load = _hit


class Unpickler(_pickle.Unpickler):
    load = _hit


for module in (pickle, _pickle):
    for name in ("load", "loads", "_load", "_loads"):
        if hasattr(module, name):
            setattr(module, name, _hit)
pickle._Unpickler = _Unpickler
pickle.Unpickler = _pickle.Unpickler = Unpickler
if stub := os.environ.get("MUSTER_STUB"):
    importlib.import_module(stub)
