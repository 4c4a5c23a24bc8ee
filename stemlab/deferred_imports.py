"""Imports of dependencies that a command rarely needs, deferred until they are used.

They are half of the time before the first training step: torchmetrics imports matplotlib and scipy for metrics of its
own that can be plotted or that measure audio, and PyTorch imports its compiler with the first optimiser. Each part
relies on names of a dependency; where a version has other names, the import is not deferred and nothing else changes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

_COMPILER, _BACKEND = "torch._dynamo", "torch._inductor"
# torch.use_deterministic_algorithms sets a flag in the first of these, which imports the second and nothing else
_SETTINGS = ("torch._inductor.config", "torch._inductor.custom_graph_pass")
_AVAILABILITY = {"torchmetrics.utilities.imports": ("_MATPLOTLIB_AVAILABLE", "_SCIPI_AVAILABLE", "_SCIPY_AVAILABLE")}


def defer_imports() -> None:
    """Defer matplotlib and scipy in torchmetrics, and PyTorch's compiler; no effect if torch is imported already.

    Only for processes of commands: a program that imports stemlab may plot metrics of torchmetrics.
    """
    if "torch" in sys.modules or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the modules that are changed or deferred."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith((f"{_COMPILER}.", f"{_BACKEND}.")):
            return None if fullname in _SETTINGS else _submodule(fullname)
        if fullname not in ("torchmetrics", _COMPILER, _BACKEND, *_AVAILABILITY):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        if fullname in (_COMPILER, _BACKEND):
            spec.loader = _DeferredLoader(spec.loader)
        elif fullname == "torchmetrics":
            _report_missing("scipy")
        else:
            spec.loader = _AvailabilityLoader(spec.loader, _AVAILABILITY[fullname])
        return spec


def _report_missing(package: str) -> None:
    """Let torchmetrics take a package for not installed; its answer is cached by ``lightning_utilities``."""
    try:
        from lightning_utilities.core.imports import package_available
    except ImportError:
        return
    if package in sys.modules or not hasattr(package_available, "cache_info"):
        return
    sys.modules[package] = None  # type: ignore[assignment]  # documented: the package cannot be found
    try:
        package_available(package)
    finally:
        del sys.modules[package]


class _AvailabilityLoader(Loader):
    """Loads a module and sets those of its flags that say which optional package is installed to False."""

    def __init__(self, loader: Loader, flags: Sequence[str]) -> None:
        self._loader, self._flags = loader, flags

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        vars(module).update({name: False for name in self._flags if name in vars(module)})


def _submodule(fullname: str) -> ModuleSpec | None:
    """Execute the deferred package before its submodule is imported; return how to find the submodule afterwards."""
    package = sys.modules[".".join(fullname.split(".")[:2])]
    if not isinstance(package, _Deferred) or not package.is_waiting():
        return None
    package.load()
    return ModuleSpec(fullname, _ImportedLoader()) if fullname in sys.modules else None


class _ImportedLoader(Loader):
    """Returns a module that was imported while its package was executed."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = sys.modules[spec.name]
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _DeferredLoader(Loader):
    """Creates a package that executes its code when a name is read that it does not have yet."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Deferred(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["_execute"] = self._loader.exec_module
        if module.__name__ == _COMPILER:
            compiled = _CompiledType("OptimizedModule", (), {})
            vars(module).update(disable=_disable(module), graph_break=_graph_break, OptimizedModule=compiled)


class _Deferred(ModuleType):
    """A module that executes its code when a missing name is read."""

    _lock = RLock()  # a thread that reads a name while another one executes the module waits

    def is_waiting(self) -> bool:
        """Return whether the code has not been executed and is not being executed."""
        return "_execute" in vars(self)

    def load(self) -> None:
        """Execute the code; no effect if that has begun."""
        with self._lock:
            if self.is_waiting():
                vars(self).pop("_execute")(self)
                self.__class__ = ModuleType  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if not (name.startswith("__") and name.endswith("__")):
            _Deferred.load(self)
        if type(self) is ModuleType or name in vars(self):
            return getattr(self, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


# What optimisers and Lightning read from the compiler in a run that compiles nothing. Reading any other name, as
# torch.compile and DistributedDataParallel do, executes the module, which replaces these.


def _disable(compiler: ModuleType) -> Callable[..., Any]:
    """Return ``disable``, which excludes a function from compilation: nothing to do until the compiler is loaded."""

    def disable(function: Any = None, recursive: bool = True, **options: Any) -> Any:
        if not callable(function):
            _ = compiler.config  # executes the module
            return compiler.disable(function, recursive, **options)
        excluded: list[Callable[..., Any]] = []

        def call(*arguments: Any, **keywords: Any) -> Any:
            if isinstance(compiler, _Deferred):
                return function(*arguments, **keywords)
            if not excluded:
                excluded.append(compiler.disable(function, recursive, **options))
            return excluded[0](*arguments, **keywords)

        return call

    return disable


def _graph_break(msg: str = "") -> None:
    """Do nothing, as the function of the compiler does outside compiled code."""


class _CompiledType(type):
    """Type of the placeholder of ``OptimizedModule``: its instances are those of the class in the loaded compiler."""

    def __instancecheck__(cls, instance: object) -> bool:
        compiler = sys.modules[_COMPILER]
        return not isinstance(compiler, _Deferred) and isinstance(instance, compiler.OptimizedModule)
